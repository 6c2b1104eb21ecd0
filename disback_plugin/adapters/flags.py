"""`--disback` and its settings as arguments of a host's own training script."""

import argparse
import json
from typing import Any, NoReturn

from disback_plugin.config import DisBackConfig
from disback_plugin.config_base import parse_settings
from disback_plugin.errors import ConfigError
from disback_plugin.path.manifest import FILE_NAME
from disback_plugin.schedule import list_schedules

_STEPS = "e.g. 10,25,50"


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, {_STEPS}") from None


def _fields(text: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object of settings")
    return fields


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags; all but `--disback` are None unless given."""
    group = parser.add_argument_group("DisBack", "record the degradation path, then walk it back")
    group.add_argument("--disback", action="store_true", help="train with DisBack")
    for name, kind, text in (
        ("path", str, "folder of the path: recorded into, or reused where it holds a whole one"),
        ("record_iters", int, "record for N iterations, the generator held still"),
        ("record_every", int, "a node every K of them"),
        ("record_at", _numbers, f"or a node after these, {_STEPS}"),
        ("interval", int, "schedule fixed: iterations a node"),
        ("intervals", _numbers, f"schedule per-node: iterations of each node visited, {_STEPS}"),
        ("schedule_settings", _fields, "further settings of the schedule, a JSON object"),
    ):
        group.add_argument(f"--disback_{name}", type=kind, default=None, help=text)
    for name, choices, text in (
        ("schedule", list_schedules(), "when which node answers (default: fixed)"),
        ("arm", ["disback", "warm", "fixed"], "or a control: warm records only, fixed is off"),
        ("codec", ["full", "delta"], "how nodes are stored; delta: bfloat16 differences"),
        ("rounding", ["stochastic", "nearest"], "how nodes are cast for a 16-bit teacher"),
    ):
        group.add_argument(f"--disback_{name}", choices=choices, default=None, help=text)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse, as the parser does, what cannot work, before the host loads anything."""

    def refuse(reason: str) -> NoReturn:
        parser.error(reason)

    given = [name for name, value in vars(args).items() if _is_setting(name) and value is not None]
    if not args.disback:
        if given:
            refuse(f"--{given[0]} has no effect without --disback")
        return
    if getattr(args, "gan_alone", False):
        refuse(
            "--disback replaces the real score along a path, and --gan_alone trains without one "
            "(it deletes real_unet): leave one of them out"
        )
    try:
        config = config_from(args)
    except ConfigError as error:
        refuse(str(error))
    folder = config.path
    reuses = config.arm != "fixed" and config.record is None
    if reuses and folder is not None and not (folder / FILE_NAME).exists():
        refuse(
            f"{folder} holds no path to reuse, and no recording is asked for: give "
            "--disback_record_iters and --disback_record_every, or the folder of a recorded path"
        )


def config_from(args: argparse.Namespace) -> DisBackConfig:
    """The session's settings; raises ConfigError naming what does not fit."""
    record = {
        "num_steps": args.disback_record_iters,
        "every": args.disback_record_every,
        "at": args.disback_record_at,
    }
    schedule = {
        "name": args.disback_schedule,
        "interval": args.disback_interval,
        "intervals": args.disback_intervals,
        **(args.disback_schedule_settings or {}),
    }
    settings = {
        "path": args.disback_path,
        "arm": args.disback_arm,
        "codec": args.disback_codec,
        "rounding": args.disback_rounding,
        "record": _given(record) or None,
        "schedule": {"name": "fixed", **_given(schedule)} if _given(schedule) else None,
    }
    return parse_settings(DisBackConfig, _given(settings), "the --disback arguments")


def _is_setting(name: str) -> bool:
    return name.startswith("disback_")


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
