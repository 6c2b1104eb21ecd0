"""Images a second of `disback sample` against a bare loop over the same network and batches.

    python -m benchmarks.sampling_speed [--seconds 150] [--rounds 9] [--batch 16] [--channels 64]

A DDPM++ of 64x64 images with random weights, on a GPU where there is one; the two take turns, each
whole, from the first draw to the last byte on disk. What counts is the median of the rounds'
ratios: of wall time on a GPU; on a CPU of the process's CPU time, all threads together, which other
work on the machine changes less, with wall time beside it. Rounds are short, for a machine is not
equally fast for minutes: as many batches as let all of them take about `--seconds` of CPU time (on
a GPU: of wall time), at least two.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from disback_plugin.lab.sampling import Asked, Sampler, Seeds, make_sampler, open_student, sample
from disback_plugin.pretrained.edm import build_edm
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint, write_edm_safetensors

LIMIT = 0.97
MOST_BATCHES = 64


def write_student(file: Path, channels: int) -> None:
    """A network of EDM's kind at FFHQ's resolution, thinner."""
    arguments = {
        "img_resolution": 64,
        "img_channels": 3,
        "label_dim": 0,
        "model_type": "SongUNet",
        "model_channels": channels,
        "channel_mult": [1, 2, 2, 2],
        "num_blocks": 2,
    }
    torch.manual_seed(0)
    tensors = build_edm("EDMPrecond", arguments).state_dict()
    checkpoint = EDMCheckpoint(class_name="EDMPrecond", init_kwargs=arguments, tensors=tensors)
    write_edm_safetensors(checkpoint, file)


def bare_loop(sampler: Sampler, batches: int, size: int) -> None:
    """The network alone, on noise that is there."""
    device, shape = sampler.device, (size, 3, 64, 64)
    z = torch.randn(shape, device=device)
    with torch.inference_mode():
        for _ in range(batches):
            sampler.student.generator(z)
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("seconds", 150), ("rounds", 9), ("batch", 16), ("channels", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_student(root / "student.safetensors", args.channels)
        student = open_student(f"safetensors:{root}/student.safetensors", {}, Asked(sigma=80.0))
        sampler = make_sampler(student, Seeds(first=0, last=args.batch - 1))
        bare_loop(sampler, 1, args.batch)
        once = seconds(lambda: bare_loop(sampler, 1, args.batch))
        clock = once[1 if sampler.device.type == "cuda" else 0]
        batches = min(MOST_BATCHES, max(2, round(args.seconds / clock / args.rounds / 2)))
        seeds = Seeds(first=0, last=batches * args.batch - 1)
        sampler = make_sampler(student, seeds)
        print(f"{args.rounds} rounds of {batches} batches of {args.batch} each", flush=True)
        ratios: dict[str, list[float]] = {"cpu": [], "wall": []}
        for number in range(args.rounds):
            bare = seconds(lambda: bare_loop(sampler, batches, args.batch))
            out = root / f"out{number}"
            ours = seconds(lambda out=out: sample(sampler, out, args.batch))  # type: ignore[misc]
            for kind, one, other in zip(ratios, bare, ours, strict=True):
                ratios[kind].append(one / other)
            rate = len(seeds.all) / ours[1]
            print(
                f"CPU: bare {bare[0]:.2f} s, disback sample {ours[0]:.2f} s; "
                f"wall: {bare[1]:.2f} s, {ours[1]:.2f} s, {rate:.1f} images/s",
                flush=True,
            )
    medians = {kind: statistics.median(found) for kind, found in ratios.items()}
    counted = medians["wall" if sampler.device.type == "cuda" else "cpu"]
    print(f"speed of the bare loop reached on {sampler.device}: {medians} (at least {LIMIT})")
    return 0 if counted >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
