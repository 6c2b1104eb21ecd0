"""Reading a 300 M-parameter EDM pickle safely, against unpickling it with NVlabs' own code.

    python benchmarks/edm_pickle.py [--edm third_party/edm] [--repeats 5]

The file is made with NVlabs' code: ADM for ImageNet-64 in float32, 1.2 GB. Each reading is a fresh
process; the three kinds take turns. Loading ends, like unpickling, with a network; reading ends
with its tensors. Exit code 1 if loading takes above 1.5 times as long, or more peak memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 1.5
KINDS = ("nvlabs", "load", "read")
ADM = {
    "img_resolution": 64,
    "img_channels": 3,
    "label_dim": 1000,
    "model_type": "DhariwalUNet",
    "model_channels": 192,
    "channel_mult": [1, 2, 3, 4],
    "dropout": 0.1,
    "use_fp16": True,
}


def write(file: Path, edm: Path) -> None:
    """What NVlabs' training writes, with random weights."""
    sys.path.insert(0, str(edm))
    import pickle

    from training import networks

    network = networks.EDMPrecond(**ADM).eval().requires_grad_(False)
    with file.open("wb") as stream:
        pickle.dump({"ema": network}, stream)
    print(f"{sum(value.numel() for value in network.parameters()):,} parameters")


def time_reading(kind: str, file: Path, edm: Path) -> None:
    """Print seconds and peak memory of this process, imports of torch and the reader not timed."""
    if kind == "nvlabs":
        sys.path.insert(0, str(edm))
        import pickle

        import torch_utils.persistence  # noqa: F401 - what the file names first
    else:
        from disback_plugin.pretrained.edm.opening import load_edm_pickle, read_edm_pickle
    start = time.perf_counter()
    if kind == "nvlabs":
        with file.open("rb") as stream:
            kept = pickle.load(stream)["ema"]
    else:
        kept = {"load": load_edm_pickle, "read": read_edm_pickle}[kind](file)
    seconds = time.perf_counter() - start
    assert kept is not None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak}))


def child(*words: object) -> str:
    """The output of this script in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def measure(file: Path, edm: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds and peak bytes of each kind, after one reading that fills caches."""
    child("--kind", "nvlabs", "--file", file, "--edm", edm)
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        for kind in KINDS:
            found[kind].append(json.loads(child("--kind", kind, "--file", file, "--edm", edm)))
    return {
        kind: {name: statistics.median(one[name] for one in ones) for name in ("seconds", "peak")}
        for kind, ones in found.items()
    }


def main() -> int:
    """Print the figures; 1 if loading is above a limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edm", type=Path, default=Path("third_party/edm"), metavar="CHECKOUT")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=["write", *KINDS], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not (args.edm / "torch_utils").is_dir():
        parser.error(f"no checkout of NVlabs/edm at {args.edm}; see third_party/README.md")
    if args.kind:
        if args.kind == "write":
            write(args.file, args.edm)
        else:
            time_reading(args.kind, args.file, args.edm)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adm.pkl"
        made = child("--kind", "write", "--file", file, "--edm", args.edm.resolve())
        print(f"{made}, {file.stat().st_size:,} bytes, {args.repeats} repeats")
        medians = measure(file, args.edm.resolve(), args.repeats)
    base = medians["nvlabs"]
    for kind, one in medians.items():
        print(
            f"{kind:<7} {one['seconds']:.2f} s ({one['seconds'] / base['seconds']:.2f}x), "
            f"peak {one['peak'] / 1e9:.2f} GB ({one['peak'] / base['peak']:.2f}x)"
        )
    slow = medians["load"]["seconds"] > LIMIT * base["seconds"]
    return 1 if slow or medians["load"]["peak"] > base["peak"] else 0


if __name__ == "__main__":
    sys.exit(main())
