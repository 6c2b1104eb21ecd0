"""`disback demo`: the whole method on scikit-learn's digits in a few minutes on a CPU."""

import argparse
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from disback_plugin.cli.arguments import add_command, add_jobs, number_of_jobs, positive
from disback_plugin.cli.run import run_and_report

CONFIG = "demo.yaml"
EXAMPLES = """  disback demo
  disback demo --seeds 5 --out demo5
  disback demo --out demo5 --seeds 5 --resume  after Ctrl-C
"""
INTRODUCTION = """DisBack demo: one-step digits from a diffusion teacher.
1. train a small diffusion teacher on 1,797 real 8x8 images
2. arm 'fixed': distil it into one step with the fixed teacher as real score (the baseline)
3. arm 'warm': as 'fixed', after recording (shows what a warm fake score is worth alone)
4. arm 'disback': record the degradation path, walk it back while the student trains
Every arm gets the same seeds and steps; recording steps are counted.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "train a teacher on real digits, record, backtrack, compare with the fixed teacher"
    parser = add_command(commands, "demo", summary, EXAMPLES)
    parser.add_argument(
        "--out", type=Path, default=Path("disback-demo"), help="folder (default: disback-demo)"
    )
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="seeds 0..N-1")
    parser.add_argument("--resume", action="store_true", help="go on in a folder with results")
    add_jobs(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the demo's three arms."""
    from disback_plugin.lab.config.experiment import parse_config
    from disback_plugin.lab.trainer import ARMS

    config = parse_config(demo_settings(), CONFIG)
    print(INTRODUCTION, flush=True)
    command = ["demo", "--out", str(args.out), "--seeds", str(args.seeds), "--resume"]
    command += ["--jobs", str(args.jobs)] if args.jobs else []
    jobs = number_of_jobs(args.jobs, config.device)
    return run_and_report(config, args.out, ARMS, args.seeds, args.resume, jobs, command)


def demo_settings() -> Any:
    """The demo's settings, as they lie in the package."""
    return yaml.safe_load((files("disback_plugin.cli") / CONFIG).read_text(encoding="utf-8"))
