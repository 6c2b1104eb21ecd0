"""`disback compare`: arms and learning rates on many paired seeds, with intervals."""

import argparse
import math
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, positive
from disback_plugin.errors import ConfigError

EXAMPLES = """  disback compare experiments/gaussians/far.yaml --seeds 18
  disback compare experiments/gaussians/far.yaml --arms fixed,adaptive --lrs 1e-3,2e-3 --seeds 18
  disback compare experiments/digits/ddpm.yaml distill.num_steps=800 --seeds 5 --out runs/ddpm
"""
ARMS = "fixed,warm,path,disback,adaptive"


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "compare arms and learning rates on many seeds, batched, with intervals"
    parser = add_command(commands, "compare", summary, EXAMPLES)
    parser.add_argument("config", type=Path, help="YAML file, see experiments/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's"
    )
    parser.add_argument(
        "--arms", default=ARMS, help=f"with commas; another: lr-warmup (default: {ARMS})"
    )
    parser.add_argument("--lrs", default="", help="student learning rates (default: the config's)")
    parser.add_argument("--seeds", type=positive, default=6, metavar="N", help="seeds 0..N-1")
    parser.add_argument("--out", type=Path, help="folder (default: runs/<name>-compare)")
    parser.add_argument(
        "--for-good",
        action="store_true",
        help="count the time to a threshold until the metric stays there, not to its first "
        "crossing; given later, it tells finished curves anew",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing, then summarise all that the folder was asked for."""
    from disback_plugin.files import write_json, write_text
    from disback_plugin.lab.compare import compare
    from disback_plugin.lab.compare.run import unfinished_walks
    from disback_plugin.lab.config.experiment import load_config
    from disback_plugin.lab.report.sweep_figure import sweep_figure
    from disback_plugin.lab.report.sweep_tables import sweep_markdown, sweep_table
    from disback_plugin.lab.results.summary import summarise_sweep
    from disback_plugin.lab.trainer import RunInterrupted

    config = load_config(args.config, args.overrides)
    out = args.out or Path("runs") / f"{config.name}-compare"
    lrs = _numbers(args.lrs)
    thresholds = config.evaluation.thresholds
    if not thresholds:
        raise ConfigError("compare needs evaluation.thresholds, fixed beforehand")
    try:
        curves = compare(config, out, args.arms.split(","), lrs, args.seeds)
    except (RunInterrupted, KeyboardInterrupt):
        print("\nstopped; the same command goes on from what is finished (an arm starts over)")
        return 130
    counted = [curve.lasting for curve in curves] if args.for_good else curves
    summary = summarise_sweep(counted, thresholds)
    summary["notes"] = unfinished_walks(config, args.arms.split(","))
    if args.for_good:
        summary["notes"].append("times to thresholds are for good: the metric stays there")
    write_json(out / "summary.json", summary)
    write_text(out / "summary.md", sweep_markdown(summary))
    rates = {curve.student_lr for curve in curves}
    shown = config.distill.student_lr if config.distill.student_lr in rates else lrs[0]
    middle = thresholds[len(thresholds) // 2]
    write_text(out / "comparison.svg", sweep_figure(curves, summary, shown, middle))
    print(sweep_table(summary))
    files = ("summary.json", "summary.md", "comparison.svg", "curves/*.jsonl")
    print(f"\n{', '.join(str(out / name) for name in files)}")
    return 0


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",") if part]
    except ValueError:
        numbers = [0.0]
    if not all(0 < number < math.inf for number in numbers):
        raise ConfigError(f"--lrs takes positive numbers with commas between (seen: {text!r})")
    return numbers
