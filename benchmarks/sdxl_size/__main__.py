"""What DisBack costs by size: switches, recording, memory, bytes read; against naive and the floor.

    python -m benchmarks.sdxl_size                      the CPU sizes, 15 M to 313 M, ranks 1, 2, 4
                                                        of FSDP1 and FSDP2
    python -m benchmarks.sdxl_size --size sdxl --device cuda --repeats 2 --teacher bfloat16
    python -m benchmarks.sdxl_size --size tiny --out out/sizes

Each case is a process of its own, and what is compared takes turns in it. Writes results.json,
results.md (the table of limits comes first) and scaling.svg; exit code 1 if a limit is broken.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.sdxl_size.networks import MAKERS
from benchmarks.sdxl_size.ranks import KINDS, measure_ranks
from benchmarks.sdxl_size.report import write_report
from benchmarks.sdxl_size.single import Case, measure_codecs

CPU_SIZES = ("block", "unet-15m", "unet-139m", "unet-313m")
TEACHERS = ("float32", "bfloat16")
RANKS = (1, 2, 4)
RANKED = ("block", "unet-62m", "unet-15m", "tiny")  # the first of them that is measured


def main() -> int:
    """Measure all that was asked for; 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=MAKERS, action="append", help="default: the CPU sizes")
    parser.add_argument("--teacher", choices=TEACHERS, action="append", help="default: both")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ranks", type=int, nargs="*", help="default: 1 2 4 on the CPU")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--work", type=Path, help="folder for paths; the largest wants 12 GB")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.case:
        print(json.dumps(run_case(json.loads(args.case), args)))
        return 0
    found: dict[str, list[Any]] = {"cases": [], "codecs": [], "ranks": []}
    args.out.mkdir(parents=True, exist_ok=True)
    for case in plan(args):
        found[case["kind"]] += child(case, args)
        broken = write_report(found, args.out)  # what was measured is kept if the next one fails
        print(f"{case}: done", file=sys.stderr, flush=True)
    print((args.out / "results.md").read_text())
    return 1 if broken else 0


def plan(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The cases, each for a process of its own."""
    sizes, teachers = args.size or CPU_SIZES, args.teacher or TEACHERS
    cases = [{"kind": "cases", "name": n, "teacher": t} for n in sizes for t in teachers]
    cases += [{"kind": "codecs", "name": name} for name in sizes if name in trained(sizes)]
    small = next((name for name in RANKED if name in sizes), None)
    ranks = args.ranks if args.ranks is not None else RANKS if args.device == "cpu" else ()
    return cases + ([{"kind": "ranks", "name": small, "ranks": list(ranks)}] if small else [])


def trained(sizes: Any) -> list[str]:
    """Those whose changes are made by real steps, for the codecs: quick ones."""
    return [name for name in sizes if name in ("tiny", "block", "unet-15m", "unet-62m")]


def child(case: dict[str, Any], args: argparse.Namespace) -> list[Any]:
    """The figures of a case, by this script in a process of its own."""
    words = ["--device", args.device, "--repeats", args.repeats, "--threads", args.threads]
    if args.work:
        words += ["--work", args.work]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sdxl_size", *map(str, words)]
    done = subprocess.run(
        [*command, "--case", json.dumps(case)], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def run_case(case: dict[str, Any], args: argparse.Namespace) -> list[Any]:
    """Measure one, in a folder that is removed."""
    logging.getLogger("disback").setLevel(logging.ERROR)
    device = torch.device(args.device)
    if args.work is not None:
        Path(args.work).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.work) as name:
        folder = Path(name)
        if case["kind"] == "ranks":
            ranks = [(kind, num) for kind in KINDS for num in case["ranks"]]
            return [measure_ranks(kind, case["name"], num, folder) for kind, num in ranks]
        if case["kind"] == "codecs":
            return measure_codecs(case["name"], device, args.repeats, folder)
        dtype = getattr(torch, case["teacher"])
        return [Case(case["name"], dtype, device, args.repeats, folder).measure()]


if __name__ == "__main__":
    sys.exit(main())
