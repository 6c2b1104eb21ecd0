"""Helpers for the parsers of the commands."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from disback_plugin.cli.parser import Formatter
from disback_plugin.errors import ConfigError
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.reading import cut

_OPTION = re.compile(r"(\w+)=(.*)", re.DOTALL)


def add_command(
    commands: Any, name: str, summary: str, examples: str, details: str = ""
) -> argparse.ArgumentParser:
    """A subparser, of a command or an action, whose help ends with details and examples.

    It is `parser` of the arguments that it parses.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"{details}examples:\n{examples}",
        formatter_class=Formatter,
    )
    parser.set_defaults(parser=parser)
    return parser


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--device`: where the networks are."""
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="what computes; auto: a GPU where there is one",
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


def add_spec(parser: argparse.ArgumentParser) -> None:
    """A checkpoint, and options of its format."""
    parser.add_argument(
        "spec",
        metavar="KIND:LOCATION",
        help="kind: edm-pkl, cm, diffusers, weights, run or safetensors; without one the content "
        "decides",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="option=value", help="options of the format"
    )


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """`option=value` with values as in YAML; ConfigError for another text, or one given twice."""
    options: dict[str, Any] = {}
    for text in texts:
        found = _OPTION.fullmatch(text)
        if found is None:
            raise ConfigError(f"{text!r} is not of the form option=value")
        if found[1] in options:
            raise ConfigError(f"option {found[1]!r} is given twice")
        options[found[1]] = parse_yaml(found[2], f"the value of {cut(text, 80)!r}")
    return options


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
