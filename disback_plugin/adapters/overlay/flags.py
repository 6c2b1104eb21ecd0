"""`--disback` and its settings as flags of a host's own training script (argparse; click too)."""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

from disback_plugin.adapters.overlay import flag_settings
from disback_plugin.adapters.overlay.flag_settings import AT_MOST, config_from, left_open
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.config import Arm, Codec, Rounding
from disback_plugin.errors import ConfigError, PathError
from disback_plugin.schedule import list_schedules

__all__ = [
    "SWITCH",
    "Flag",
    "add_arguments",
    "check_arguments",
    "config_from",
    "flags",
    "left_open",
]

SWITCH = "train with DisBack"
_STEPS = "e.g. 10,25,50"


@dataclass(frozen=True)
class Flag:
    """`--disback_NAME`, None unless given; `parse` raises argparse.ArgumentTypeError."""

    name: str
    text: str
    parse: Callable[[str], Any] = str
    choices: tuple[str, ...] | None = None


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(_number(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        reason = f"{text!r} is no list of numbers, {_STEPS}"
        raise argparse.ArgumentTypeError(reason) from None


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object of settings")
    return fields


def flags() -> tuple[Flag, ...]:
    """All of them, with the schedules that are registered by now."""
    schedules = tuple(list_schedules())
    return (
        Flag("path", "folder of the path: recorded into, or reused where it holds a whole one"),
        Flag(
            "record",
            "auto: if and what a measure of the generator's samples calls for (default where no "
            "path lies in the folder); reuse: nothing, a path must lie there",
            choices=("auto", "reuse"),
        ),
        Flag(
            "record_iters",
            f"record for N iterations, the generator held still (auto: at most, default {AT_MOST})",
            _number,
        ),
        Flag("record_every", "a node every K of them", _number),
        Flag("record_at", f"or a node after these, {_STEPS}", _numbers),
        Flag("record_settings", "rules of auto, a JSON object", _fields),
        Flag("interval", "schedule fixed: iterations a node", _number),
        Flag(
            "intervals", f"schedule per-node: iterations of each node visited, {_STEPS}", _numbers
        ),
        Flag("schedule_settings", "further settings of the schedule, a JSON object", _fields),
        Flag(
            "schedule",
            "when which node answers (default: adaptive where recording is automatic, else fixed; "
            "what interval or intervals belong to)",
            choices=schedules,
        ),
        Flag("arm", "or a control: warm records only, fixed is off", choices=get_args(Arm)),
        Flag("codec", "how nodes are stored (docs/scaling.md)", choices=get_args(Codec)),
        Flag("rounding", "how nodes are cast for a 16-bit teacher", choices=get_args(Rounding)),
        Flag(
            "prefetch",
            "off: the next node is not read ahead, where host memory for one is short",
            choices=("on", "off"),
        ),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; all but `--disback` are None unless given."""
    group = parser.add_argument_group("DisBack", "record the degradation path, then walk it back")
    group.add_argument("--disback", action="store_true", help=SWITCH)
    for flag in flags():
        name = f"--disback_{flag.name}"
        group.add_argument(name, type=flag.parse, choices=flag.choices, help=flag.text)


def check_arguments(
    parser: argparse.ArgumentParser, args: argparse.Namespace, run: HostRun | None = None
) -> None:
    """Refuse, as the parser does, what cannot work, before the host loads anything."""
    try:
        flag_settings.check(args, run)
    except (ConfigError, PathError) as error:
        parser.error(str(error))
