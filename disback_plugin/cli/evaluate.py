"""`disback eval`: samples against real images, by a named protocol."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disback_plugin.cli.arguments import add_command, add_device, positive
from disback_plugin.errors import ConfigError

if TYPE_CHECKING:
    from disback_plugin.lab.evaluation.session import Settings
    from disback_plugin.lab.results.evaluations import Evaluation

DETAILS = """SAMPLES is a folder or zip of images, an .npz with arr_0 (N, H, W, 3) uint8, or an LMDB
of `disback data lmdb`; RUN is a folder of `disback run`, whose students are then sampled from.

protocols:
  edm            50,000 images a range of seeds, to EDM's .npz: FID, mean, spread
  adm            50,000 images, to ADM's batch: FID, sFID, IS, precision, recall
  dmd2-imagenet  50,000 images of balanced labels, to EDM's .npz: FID
  coco-256       30,000 prompts, 256 x 256, clean-fid's resize: FID, CLIP
  coco-512       10,000 prompts, 512 x 512, the same: FID, patch FID, CLIP
  coco-lcm       30,000 prompts, 512 x 512, to 50,000 real images: FID

features (instead of Inception's; the number is named after them, not FID):
  pixels              averaged to at most 16 x 16
  classifier:FILE     what `disback run` trained for problem.classifier
  torchscript:FILE    forward(images 0 to 255, return_features=True) -> (n, d)
  module:function     of images (n, 3, h, w) in [0, 255] -> (n, d)

Nothing is downloaded: Inception's file is looked for in --networks or $DISBACK_NETWORKS, and its
SHA-256 is checked. Several processes (torchrun -m disback_plugin eval ...) share the work; the
result is the same, and after a kill the same command goes on. It lies beside SAMPLES.

"""
PROMPTS = "of the images, for the CLIP score; of a RUN, what its students draw (default: none)"
EXAMPLES = """  disback eval samples/ --protocol edm --reference ffhq-64x64.npz --networks networks/
  disback eval samples.npz --protocol adm --reference VIRTUAL_imagenet64_labeled.npz
  disback eval coco/ --protocol coco-256 --make-reference coco-256.safetensors
  disback eval samples/ --protocol edm --features pixels --reference pixels.safetensors --smoke
  disback eval runs/digits --protocol edm --reference edm.safetensors --every
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "measure samples: FID and its kin, by a named protocol"
    parser = add_command(commands, "eval", summary, EXAMPLES, DETAILS)
    parser.add_argument("samples", type=Path, metavar="SAMPLES|RUN", help="see below")
    parser.add_argument("--protocol", required=True, metavar="NAME", help="how, see below")
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="what is compared with; no default"
    )
    parser.add_argument(
        *("--make-reference", "--make_reference"),
        type=Path,
        metavar="FILE",
        help="make a .safetensors reference of SAMPLES, real images, instead; no default",
    )
    parser.add_argument(
        "--networks",
        type=Path,
        metavar="FOLDER",
        help="of network files (default: $DISBACK_NETWORKS)",
    )
    parser.add_argument("--features", metavar="WHAT", help="see below (default: Inception's)")
    parser.add_argument(
        "--numbers",
        metavar="A,B",
        help="fid, sfid, kid, is, precision, recall, patch-fid, clip-score (default: those of the "
        "protocol)",
    )
    parser.add_argument("--prompts", type=Path, metavar="FILE", help=PROMPTS)
    parser.add_argument(
        "--every",
        nargs="?",
        const=1,
        type=positive,
        metavar="N",
        help="of a RUN: every N-th of the students that it kept (checkpoint.keep_students), and "
        "curves over steps, images and passes (default: the last student)",
    )
    parser.add_argument("--thresholds", metavar="A,B", help="of the curves (default: fixed's last)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="of the result (default: beside SAMPLES)"
    )
    parser.add_argument(
        "--cell", metavar="NAME", help="the table's cell, see disback tables (default: none)"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="any number of images; the result is marked as such"
    )
    add_device(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Measure, write the result, print the table."""
    from disback_plugin.distributed import is_main
    from disback_plugin.lab.evaluation.session import evaluate_path, reference_from
    from disback_plugin.lab.results.evaluations import read_evaluation

    settings = _settings(args)
    if args.make_reference is not None:
        reference_from(args.samples, settings, args.make_reference)
        if is_main():
            print(f"reference: {args.make_reference}")
        return 0
    if args.reference is None:
        raise ConfigError(
            "give --reference FILE: published statistics, or your own of real images "
            "(--make-reference FILE)"
        )
    if _is_run(args.samples):
        return _run_students(args, settings)
    if args.every or args.thresholds:
        raise ConfigError(f"--every and --thresholds are for a run; {args.samples} is none")
    out = evaluate_path(args.samples, args.reference, settings, args.out)
    if is_main():
        print(table(read_evaluation(out)))
        print(f"\nresult: {out}")
    return 0


def _run_students(args: argparse.Namespace, settings: "Settings") -> int:
    from disback_plugin.distributed import is_main
    from disback_plugin.lab.evaluation.run_curves import evaluate_run

    thresholds = _floats(args.thresholds)
    out = args.out or args.samples / f"eval-{settings.tag}"
    lines = evaluate_run(args.samples, args.reference, settings, out, args.every, thresholds)
    if is_main():
        print(lines)
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    from disback_plugin.lab.evaluation.protocol import named_number
    from disback_plugin.lab.evaluation.protocols import get_protocol
    from disback_plugin.lab.evaluation.session import Settings
    from disback_plugin.lab.tables.cells import check_cell

    get_protocol(args.protocol)
    numbers = args.numbers and tuple(map(named_number, args.numbers.split(",")))
    return Settings(
        protocol=args.protocol,
        networks=args.networks,
        features=args.features,
        numbers=numbers or None,
        prompts=args.prompts,
        smoke=args.smoke,
        cell=args.cell and check_cell(args.cell, args.protocol),
        device=args.device,
    )


def _is_run(folder: Path) -> bool:
    places = ("run.json", "runs", "config.yaml")
    return any(os.path.lexists(folder / name) for name in places)


def _floats(text: str | None) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(","))) if text else ()
    except ValueError:
        raise ConfigError(f"--thresholds {text}: give numbers with commas") from None


def table(evaluation: "Evaluation") -> str:
    """The numbers, range by range, and what a reader must know."""
    from disback_plugin.lab.report.tables import aligned

    ranges = evaluation.ranges
    if len(ranges) == 1:
        ranges = dict.fromkeys(ranges, evaluation.numbers)
    over = ("mean", "spread", "minimum") if evaluation.summary else ()
    rows = [["number", *ranges, *over]]
    for name in evaluation.numbers:
        found = [numbers.get(name) for numbers in ranges.values()]
        found += [evaluation.summary.get(name, {}).get(kind) for kind in over]
        rows.append([name, *("" if value is None else f"{value:.4g}" for value in found)])
    head = f"{evaluation.samples['name']}, protocol {evaluation.protocol}"
    head += " (SMOKE: these numbers mean nothing)" if evaluation.smoke else ""
    notes = [f"note: {remark}" for remark in evaluation.remarks]
    return "\n".join([head, "", aligned(rows), *([""] * bool(notes)), *notes])
