"""What `demo`, `run` and `report` share: an experiment, its report; stop and resume cleanly."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from disback_plugin.config import Arm
    from disback_plugin.lab.config.experiment import ExperimentConfig


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


def report(runs: Sequence[Path], out: Path) -> None:
    """Write the report of experiments into `out`; print its table, and how to read intervals."""
    from disback_plugin.lab.report import build_report, format_table
    from disback_plugin.lab.report.formatting import INTERVALS

    print(format_table(build_report(runs, out)))
    print(f"\n± is one standard deviation over seeds; intervals are\n{INTERVALS}")
    print(f"\nreport: {out / 'report.html'}")


def _launcher() -> list[str]:
    """How this run was started: the console script, or torchrun over several processes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return ["disback"]
    local = os.environ.get("LOCAL_WORLD_SIZE", str(world))
    nodes = [] if local == str(world) else ["--nnodes", str(world // int(local))]
    return ["torchrun", *nodes, "--nproc_per_node", local, "-m", "disback_plugin"]
