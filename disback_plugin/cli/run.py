"""`disback run`: an experiment from its config."""

import argparse
from pathlib import Path
from typing import Any

from disback_plugin.cli.arguments import add_command, add_jobs, number_of_jobs, positive
from disback_plugin.cli.experiment import run_and_report
from disback_plugin.errors import ConfigError

EXAMPLES = """  disback run experiments/gaussians/far.yaml --seeds 5
  disback run experiments/digits/ddpm.yaml distill.student_lr=3e-4 --arm disback --out runs/lr
  disback run experiments/digits/ddpm.yaml --out runs/digits-ddpm --resume
  torchrun --nproc_per_node 2 -m disback_plugin run experiments/digits/edm.yaml
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = add_command(commands, "run", "run an experiment and write its report", EXAMPLES)
    parser.add_argument("config", type=Path, help="YAML file, see experiments/")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings that replace the file's"
    )
    parser.add_argument(
        "--arm",
        choices=["disback", "fixed", "warm", "all"],
        default="all",
        help="which arm (default: all three, on the same seeds and budget)",
    )
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="seeds 0..N-1")
    parser.add_argument("--out", type=Path, help="folder (default: runs/<name of the experiment>)")
    parser.add_argument("--resume", action="store_true", help="go on in a folder with results")
    add_jobs(parser)
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run the experiment."""
    from disback_plugin.lab.config.experiment import load_config
    from disback_plugin.lab.trainer import ARMS

    strange = [text for text in args.overrides if "=" not in text]
    if strange:
        raise ConfigError(f"{strange[0]!r} is neither an option nor key=value")
    config = load_config(args.config, args.overrides)
    out = args.out or Path("runs") / config.name
    arms = ARMS if args.arm == "all" else (args.arm,)
    command = ["run", str(args.config), *args.overrides]
    command += ["--arm", args.arm, "--seeds", str(args.seeds), "--out", str(out), "--resume"]
    command += ["--jobs", str(args.jobs)] if args.jobs else []
    jobs = number_of_jobs(args.jobs, config.device)
    return run_and_report(config, out, arms, args.seeds, args.resume, jobs, command)
