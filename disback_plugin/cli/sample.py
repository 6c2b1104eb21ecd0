"""`disback sample`: images of a trained student."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, add_device, add_spec, parse_options, positive
from disback_plugin.errors import ConfigError, count

EXAMPLES = """  disback sample run:runs/ffhq64/runs/disback-seed0 --seeds 0-49999 --out samples/ffhq
  disback sample edm-pkl:network-snapshot-000500.pkl --sigma 1.0 --seeds 0-49999 --out a.npz
  disback sample weights:student.bin base=diffusers:SDXL --timestep 399 --prompts p.txt --out coco
  disback sample cm:cd_imagenet64_lpips.pt --labels balanced --seeds 0-49999 --out cd.zip
  disback sample run:RUN --seeds 0-49999 --num-processes 8 --out samples/ffhq
"""
DETAILS = """Image i is drawn from seed i on the CPU, its noise first, then its label, as NVlabs/edm
does: any range, batch size and number of processes makes the same images, up to the last bits that
a network's result may change with the size of its batch. With prompts, seed i has prompt i (from 0,
over again after the last). Several processes share the images: --num-processes N, torchrun, or
accelerate launch -m disback_plugin sample ...

OUT is a folder of PNG files, or OUT.npz (arr_0: bytes, NHWC), or OUT.zip of PNG files; what they
are is said in samples.json in the folder or zip, in OUT.json beside an .npz. Until all are there
they lie in OUT.part: the same command goes on where it was stopped. OUT.grid.png is to look at.

"""
BATCH, TEXT_BATCH = 64, 4


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "make images by a trained student"
    parser = add_command(commands, "sample", summary, EXAMPLES, DETAILS)
    add_spec(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder, .npz or .zip to write")
    parser.add_argument("--seeds", default="0-63", metavar="A-B", help="the seeds of the images")
    parser.add_argument(
        "--labels",
        metavar="random|balanced|N",
        help="classes: drawn, seed modulo their number, or one (default: random)",
    )
    parser.add_argument(
        "--prompts", metavar="FILE", help="of a student that takes text, which has no default"
    )
    parser.add_argument(
        "--column", metavar="NAME", help="of the prompts (default: that of a table with one)"
    )
    add_asked(parser)
    parser.add_argument(
        "--batch",
        type=positive,
        metavar="N",
        help=f"images a pass (default: {BATCH}; {TEXT_BATCH} for text)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp16", "bf16"],
        help="what the network computes in (default: as its checkpoint says)",
    )
    add_device(parser)
    parser.add_argument(
        "--num-processes", type=positive, default=1, metavar="N", help="that share the images"
    )
    parser.add_argument(
        "--grid", type=int, default=64, metavar="N", help="images in OUT.grid.png (0: none)"
    )
    parser.set_defaults(command=run)


def add_asked(parser: argparse.ArgumentParser) -> None:
    """`--sigma`, `--timestep`, `--noise`: how a student is asked that does not say it itself."""
    level = parser.add_mutually_exclusive_group()
    level.add_argument(
        "--sigma",
        type=float,
        help="the noise level that the student is asked at (default: what its files say)",
    )
    level.add_argument(
        "--timestep",
        type=int,
        metavar="T",
        help="the same, of a model with those (default: what its files say)",
    )
    parser.add_argument(
        "--noise",
        choices=["sigma", "unit"],
        help="its input: noise of that level, or (models with timesteps, by default) such that the "
        "network is given standard normal noise, as DMD2 and diffusers do",
    )


def run(args: argparse.Namespace) -> int:
    """Sample, here or in several processes; the exit code."""
    if args.num_processes > 1 and "RANK" not in os.environ:
        return _launch(args.num_processes)
    from disback_plugin.distributed import is_main
    from disback_plugin.lab.data import load_prompts
    from disback_plugin.lab.sampling import (
        Asked,
        make_sampler,
        open_student,
        parse_labels,
        parse_seeds,
        sample,
    )

    if args.grid < 0:
        raise ConfigError(f"--grid {args.grid} is less than 0")
    seeds = parse_seeds(args.seeds)
    labels = None if args.labels is None else parse_labels(args.labels)
    prompts = None if args.prompts is None else load_prompts(args.prompts, column=args.column)
    asked = Asked(sigma=args.sigma, timestep=args.timestep, noise=args.noise)
    student = open_student(args.spec, parse_options(args.overrides), asked)
    sampler = make_sampler(student, seeds, labels, prompts, args.device, args.precision)
    batch = args.batch or (TEXT_BATCH if student.takes_text else BATCH)
    try:
        samples = sample(sampler, args.out, batch, args.grid)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from what is finished", file=sys.stderr)
        return 130
    if is_main():
        height, width, channels = samples.shape
        print(f"{args.out}: {count(samples.count, 'image')} of {height}x{width}x{channels}")
        print(f"SHA-256 over all: {samples.images_sha256}")
    return 0


def _launch(num: int) -> int:
    """The same command under torchrun, whose processes know that they are its own."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(num)]
    command = [sys.executable, "-m", *launcher, "-m", "disback_plugin", *sys.argv[1:]]
    return subprocess.call(command)
