"""`disback run`: an experiment and its report; `demo` and `report` use the same steps."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disback_plugin.cli.arguments import add_command, add_jobs, number_of_jobs, positive
from disback_plugin.cli.smoke import smoke
from disback_plugin.errors import ConfigError

if TYPE_CHECKING:
    from disback_plugin.config import Arm
    from disback_plugin.lab.config.experiment import ExperimentConfig

EXAMPLES = """  disback run experiments/gaussians/far.yaml --seeds 5
  disback run experiments/digits/ddpm.yaml distill.student_lr=3e-4 --arm disback --out runs/lr
  disback run experiments/digits/ddpm.yaml --out runs/digits-ddpm --resume
  disback run experiments/digits/ddpm.yaml --smoke
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
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="try the config in small, in seconds: its arm disback with tiny random weights in the "
        "real formats, stopped and resumed (in a temporary folder unless --out names an empty one)",
    )
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
    if args.smoke:
        return smoke(config, args.out)
    out = args.out or Path("runs") / config.name
    arms = ARMS if args.arm == "all" else (args.arm,)
    command = ["run", str(args.config), *args.overrides]
    command += ["--arm", args.arm, "--seeds", str(args.seeds), "--out", str(out), "--resume"]
    command += ["--jobs", str(args.jobs)] if args.jobs else []
    jobs = number_of_jobs(args.jobs, config.device)
    return run_and_report(config, out, arms, args.seeds, args.resume, jobs, command)


def run_and_report(
    config: "ExperimentConfig",
    out: Path,
    arms: "Sequence[Arm]",
    num_seeds: int,
    resume: bool,
    jobs: int,
    resume_command: Sequence[str],
) -> int:
    """Run all arms and seeds into `out`, write the report, print the table; returns an exit code.

    After Ctrl-C, `resume_command`, what follows `disback`, is printed as the user types it.
    """
    from disback_plugin.distributed import is_main
    from disback_plugin.lab.trainer import RunInterrupted, run_experiment

    try:
        results = run_experiment(config, out, arms, tuple(range(num_seeds)), resume, jobs)
    except RunInterrupted as stop:
        if is_main():
            print(f"\nstopped at step {stop.step} of {stop.num_steps}; nothing is lost.")
            print(f"resume with: {shlex.join([*_launcher(), *resume_command])}")
        return 130
    if not is_main():
        return 0
    for result in results:
        if result.was_complete:
            print(result, file=sys.stderr)
    report([out], out)
    return 0


def report(runs: Sequence[Path], out: Path, csv: Path | None = None) -> None:
    """Write the report of experiments into `out`, its numbers also as tables into `csv`.

    Prints its table, and how to read intervals.
    """
    from disback_plugin.lab.report import build_report, format_table
    from disback_plugin.lab.report.formatting import INTERVALS

    print(format_table(build_report(runs, out, csv)))
    print(f"\n± is one standard deviation over seeds; intervals are\n{INTERVALS}")
    print(f"\nreport: {out / 'report.html'}")
    if csv is not None:
        print(f"tables: {csv}")


def _launcher() -> list[str]:
    """How this run was started: the console script, or torchrun over several processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ["disback"]
    local = os.environ.get("LOCAL_WORLD_SIZE", str(world))
    nodes = [] if local == str(world) else ["--nnodes", str(world // int(local))]
    return ["torchrun", *nodes, "--nproc_per_node", local, "-m", "disback_plugin"]
