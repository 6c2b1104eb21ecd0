"""Helpers for the parsers of the commands."""

import argparse
import os
import sys
from typing import Any


def add_command(
    commands: Any, name: str, summary: str, examples: str, details: str = ""
) -> argparse.ArgumentParser:
    """A subparser, of a command or an action, whose help ends with details and examples."""
    return commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"{details}examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """An integer above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """`--jobs`: how many runs at a time."""
    parser.add_argument(
        "--jobs",
        type=positive,
        default=None,
        metavar="N",
        help="runs at a time, each a process with its share of the cores (default: one a core on "
        "the CPU, one on a GPU)",
    )


def number_of_jobs(jobs: int | None, device: str) -> int:
    """The chosen number of jobs, else one a core on the CPU and one on a GPU."""
    if jobs is not None:
        return jobs
    import torch

    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return 1 if on_gpu else _num_cores()


def _num_cores() -> int:
    if sys.platform == "linux":  # the cores this process may use, fewer in a container
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
