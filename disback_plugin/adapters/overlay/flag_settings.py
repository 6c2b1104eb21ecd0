"""The session's settings from `--disback` flags, refused in the flags' own names."""

import argparse
import math
import os
import sys
from pathlib import Path
from typing import Any

from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.config import DisBackConfig
from disback_plugin.config_base import parse_settings
from disback_plugin.errors import ConfigError, count
from disback_plugin.path.manifest import FILE_NAME, read_manifest


def check(args: argparse.Namespace, run: HostRun | None = None) -> None:
    """Raise ConfigError or PathError for what cannot work, before the host loads anything."""
    if args.disback:
        _check_flags(args)
        config = config_from(args)
        _check_reused(config)
        if run is not None:
            run.check(config)
    else:
        _check_off(args)


def config_from(args: argparse.Namespace, beside: str | None = None) -> DisBackConfig:
    """The session's settings; raises ConfigError naming what does not fit.

    beside: names of the host's own arguments that no recording hangs on; all others are kept with
    the path. None: it keeps none.
    """
    record = {
        "num_steps": args.disback_record_iters,
        "every": args.disback_record_every,
        "at": args.disback_record_at,
    }
    schedule = {
        "interval": args.disback_interval,
        "intervals": args.disback_intervals,
        **(args.disback_schedule_settings or {}),
    }
    fields, named = _given(schedule), args.disback_schedule is not None
    settings = {
        "path": args.disback_path,
        "arm": args.disback_arm,
        "codec": args.disback_codec,
        "rounding": args.disback_rounding,
        "prefetch": args.disback_prefetch,
        "record": _given(record) or None,
        "schedule": {"name": _schedule_name(args), **fields} if fields or named else None,
        "host": None if beside is None else _of_host(args, beside),
    }
    return parse_settings(DisBackConfig, _given(settings), "the --disback arguments")


def _of_host(args: argparse.Namespace, beside: str) -> dict[str, Any]:
    """The script, its processes and its arguments."""
    left_out = ("disback", *(beside.split()))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    given = {
        name: _plain(value)
        for name, value in vars(args).items()
        if value is not None and name not in left_out and not name.startswith("disback_")
    }
    return {"script": Path(sys.argv[0]).name, "num_processes": world, **given}


def _plain(value: Any) -> Any:
    """As JSON has it; of an absolute path the name alone: a folder that was moved is the same."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return Path(str(value)).name if os.path.isabs(str(value)) else str(value)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _check_off(args: argparse.Namespace) -> None:
    for name, value in vars(args).items():
        if name.startswith("disback_") and value is not None:
            raise ConfigError(f"--{name} has no effect without --disback")


def _check_flags(args: argparse.Namespace) -> None:
    """What the settings' own checks would say in names that are no flags."""
    if args.disback_path is None and args.disback_arm != "fixed":
        raise ConfigError("--disback needs --disback_path, the folder of the degradation path")
    if args.disback_path is not None and not args.disback_path.strip():
        raise ConfigError("--disback_path is empty: give the folder of the degradation path")
    _check_recording(args)
    _check_schedule(args)


def _check_recording(args: argparse.Namespace) -> None:
    iters, every, at = args.disback_record_iters, args.disback_record_every, args.disback_record_at
    how = "--disback_record_every (a node every K) or --disback_record_at (a list)"
    if every is not None and at is not None:
        raise ConfigError(f"give either {how}, not both")
    if iters is None:
        for name, value in (("every", every), ("at", at)):
            if value is not None:
                raise ConfigError(f"--disback_record_{name} needs --disback_record_iters")
    elif every is None and at is None:
        raise ConfigError(f"--disback_record_iters needs {how}")
    elif every is not None and every > iters:
        raise ConfigError(
            f"--disback_record_every {every} is more than {iters} iterations: no node"
        )
    elif at is not None and (list(at) != sorted(set(at)) or at[-1] > iters):
        raise ConfigError(f"--disback_record_at must rise within 1..{iters} (seen: {list(at)})")


def _check_schedule(args: argparse.Namespace) -> None:
    name, settings = _schedule_name(args), args.disback_schedule_settings or {}
    fields = {"fixed": "interval", "per-node": "intervals"}
    for owner, field in fields.items():
        other = name in fields and name != owner
        if getattr(args, f"disback_{field}") is not None and other:
            raise ConfigError(
                f"--disback_{field} belongs to --disback_schedule {owner}; {name} takes "
                f"--disback_{fields[name]}"
            )
    if args.disback_schedule is None and not settings:
        return  # the default schedule has a default interval
    needed = fields.get(name)
    if needed and getattr(args, f"disback_{needed}") is None and needed not in settings:
        raise ConfigError(f"--disback_schedule {name} needs --disback_{needed}")


def _check_reused(config: DisBackConfig) -> None:
    """A path to reuse must be there, whole, and fit the schedule."""
    folder = config.path
    if config.arm == "fixed" or config.record is not None or folder is None:
        return
    if not (folder / FILE_NAME).exists():
        raise ConfigError(
            f"{folder} holds no path to reuse, and no recording is asked for: give "
            "--disback_record_iters and --disback_record_every, or the folder of a recorded path"
        )
    manifest = read_manifest(folder)
    if not manifest.complete:
        nodes = count(len(manifest.nodes), "node")
        raise ConfigError(
            f"{folder} holds an unfinished path ({nodes}): resume the run that records it, "
            "with its --disback_record_... arguments, or delete the folder"
        )
    if config.arm == "disback":
        config.schedule.check(len(manifest.nodes))


def _schedule_name(args: argparse.Namespace) -> str:
    implied = "fixed" if args.disback_intervals is None else "per-node"
    return args.disback_schedule or implied
