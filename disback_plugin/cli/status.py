"""`disback status`: how far the runs of an experiment are, read beside their processes."""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disback_plugin.cli.arguments import add_command
from disback_plugin.cli.showing import show
from disback_plugin.reading import cut

if TYPE_CHECKING:
    from disback_plugin.lab.results.under_way import Status

EXAMPLES = """  disback status runs/digits-ddpm
  disback status runs/digits-ddpm/runs/disback-seed0
"""
LONGEST = 2000  # characters of a line
DETAILS = """A run is complete, running, stopped (resume it), or died: its process is gone and left
no word. Speed and time left are of training alone, without evaluations. Nothing is written or
locked. The exit code is 1 where a run has died, or one of several cannot be read.

"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    summary = "how far runs are: stage, node, speed, time left, last metrics"
    parser = add_command(commands, "status", summary, EXAMPLES, DETAILS)
    parser.add_argument("run", type=Path, metavar="RUN", help="an experiment's folder, or a run's")
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Print some lines a run; exit code 1 if one has died, or cannot be read."""
    from disback_plugin.lab.results.under_way import read_statuses

    statuses = read_statuses(args.run, time.time())
    # a metric's name comes from a file: a terminal is not to obey it
    show("\n  ".join(cut(line, LONGEST) for line in told(status)) for status in statuses)
    return 1 if any(status.state in ("died", "unreadable") for status in statuses) else 0


def told(status: "Status") -> list[str]:
    """A run's lines, the first with its name and state."""
    if status.state == "complete":
        return [f"{status.name}: complete, {status.num_steps} steps", *_metrics(status)]
    if status.state == "unreadable":
        return [f"{status.name}: unreadable", status.problem]
    lines = [f"{status.name}: {_state(status)}"]
    if parts := [part for part in _progress(status) if part]:
        lines.append(", ".join(parts))
    return lines + _losses(status) + _metrics(status)


def _state(status: "Status") -> str:
    share = f" ({status.step / status.num_steps:.0%})" if status.num_steps else ""
    at = f"step {status.step} of {status.num_steps}{share}"
    if status.state == "elsewhere":
        return f"on another machine, {at}"
    if status.state == "running":
        return f"running, {at}"
    goes_on = "from its start" if status.checkpoint is None else f"from step {status.checkpoint}"
    return f"{status.state} at {at}; --resume goes on {goes_on}"


def _progress(status: "Status") -> list[str]:
    """Where it is and how fast; time left only where somebody works on it."""
    from disback_plugin.lab.results.under_way import duration

    train, speed, images = status.train, status.steps_per_second, status.images_per_second
    under_way = status.state in ("running", "elsewhere")
    left, age = status.seconds_left, status.age
    return [
        f"stage {train['stage']}" if "stage" in train else "",
        f"node {train['node']}" if "node" in train else "",
        f"{speed:,.3g} steps/s" if speed else "",
        f"{images:,.0f} images/s" if images else "",
        f"{duration(left)} left" if under_way and left is not None else "",
        f"last line {duration(age)} ago" if age is not None else "",
    ]


def _losses(status: "Status") -> list[str]:
    losses = {k: v for k, v in status.train.items() if k.endswith("loss") and v is not None}
    if not losses:
        return []
    return [f"step {status.train['step']}: " + ", ".join(f"{k} {v:.4g}" for k, v in losses.items())]


def _metrics(status: "Status") -> list[str]:
    metrics = status.evaluation.get("metrics") or {}
    found = [f"{name} {value:.4g}" for name, value in metrics.items() if value is not None]
    return [f"evaluation of step {status.evaluation['step']}: {', '.join(found)}"] if found else []
