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
from disback_plugin.path.manifest import FILE_NAME, Manifest, read_manifest
from disback_plugin.schedule import Adaptive

FLAGS = {
    "record": ("record", "record_iters", "record_every", "record_at", "record_settings"),
    "schedule": ("schedule", "interval", "intervals", "schedule_settings"),
}
FIELDS = {"per-node": "intervals", "fixed": "interval"}  # schedules by their own flags
AT_MOST = 200  # steps of automatic recording: the paper's, but for SDXL
ADAPTIVE = {"cap": 1000, "every": 50}  # the paper's steps a node, as far as they are needed
RESUMES = ("checkpoint_path", "ckpt_only_path", "resume_from_checkpoint", "disback_resume")


def check(args: argparse.Namespace, run: HostRun | None = None) -> None:
    """Raise ConfigError or PathError for what cannot work, before the host loads anything."""
    if args.disback:
        _check_flags(args)
        _check_folder(args)
        config = config_from(args)
        if config.arm == "disback" and config.record is None and config.path is not None:
            config.schedule.check(len(read_manifest(config.path).nodes))
        if run is not None:
            run.check(config)
    else:
        _check_off(args)


def config_from(args: argparse.Namespace, beside: str | None = None) -> DisBackConfig:
    """The session's settings; raises ConfigError naming what does not fit.

    What no flag says is decided by what lies in the path's folder: a whole path is reused, else
    recording is automatic; so recorded, a path is walked by the schedule `adaptive`.
    beside: names of the host's own arguments that no recording hangs on; all others are kept with
    the path. None: it keeps none.
    """
    found = _whole_path(args)
    record = _record(args, found)
    automatic = "auto" in (record or (found.recording if found else {}))
    settings = {
        "path": args.disback_path,
        "arm": args.disback_arm,
        "codec": args.disback_codec,
        "rounding": args.disback_rounding,
        "prefetch": args.disback_prefetch,
        "record": record,
        "schedule": _schedule(args, automatic),
        "host": None if beside is None else _of_host(args, beside),
    }
    return parse_settings(DisBackConfig, _given(settings), "the --disback arguments")


def left_open(args: argparse.Namespace) -> tuple[str, ...]:
    """The settings that no flag says: a resumed run goes on with those it was saved with."""
    return tuple(
        name
        for name, flags in FLAGS.items()
        if all(getattr(args, f"disback_{flag}") is None for flag in flags)
    )


def _whole_path(args: argparse.Namespace) -> Manifest | None:
    """Of the path that lies in the folder, if it is complete; PathError where it is damaged."""
    folder = Path(args.disback_path or "")
    if args.disback_arm == "fixed" or not (folder / FILE_NAME).exists():
        return None
    manifest = read_manifest(folder)
    return manifest if manifest.complete else None


def _record(args: argparse.Namespace, found: Manifest | None) -> dict[str, Any] | None:
    reuses = found is not None and "record" in left_open(args)
    if reuses or args.disback_record == "reuse" or args.disback_arm == "fixed":
        return None
    num_steps, every, at = (getattr(args, f"disback_record_{n}") for n in ("iters", "every", "at"))
    if every is None and at is None:
        if (args.disback_schedule or _implied_schedule(args)) == "per-node":
            raise ConfigError(
                "--disback_intervals (schedule per-node) are of a known number of nodes: say which "
                "are recorded (--disback_record_iters and --disback_record_at)"
            )
        return {"num_steps": num_steps or AT_MOST, "auto": args.disback_record_settings or {}}
    return _given({"num_steps": num_steps, "every": every, "at": at})


def _schedule(args: argparse.Namespace, automatic: bool) -> dict[str, Any] | None:
    fields = _given({"interval": args.disback_interval, "intervals": args.disback_intervals})
    fields |= args.disback_schedule_settings or {}
    name = _schedule_name(args, automatic)
    if name == "adaptive" and "cap" not in fields:
        fields = ADAPTIVE | fields
    return {"name": name, **fields} if fields or args.disback_schedule else None


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
    way, rules = args.disback_record, args.disback_record_settings
    how = "--disback_record_every (a node every K) or --disback_record_at (a list)"
    if args.disback_arm == "fixed" and way is not None:
        raise ConfigError(
            f"--disback_record {way} has no effect with --disback_arm fixed, which is DisBack "
            "switched off: leave one of them out"
        )
    if way == "reuse" and any(value is not None for value in (iters, every, at, rules)):
        raise ConfigError("--disback_record reuse records nothing: leave its other settings out")
    if (every is not None or at is not None) and (way == "auto" or rules is not None):
        raise ConfigError(f"automatic recording says itself which nodes to keep: leave out {how}")
    if every is not None and at is not None:
        raise ConfigError(f"give either {how}, not both")
    if iters is None:
        for name, value in (("every", every), ("at", at)):
            if value is not None:
                raise ConfigError(f"--disback_record_{name} needs --disback_record_iters")
    elif every is None and at is None:
        if way is None and rules is None:
            raise ConfigError(f"--disback_record_iters needs {how}, or --disback_record auto")
    elif every is not None and every > iters:
        raise ConfigError(
            f"--disback_record_every {every} is more than {iters} iterations: no node"
        )
    elif at is not None and (list(at) != sorted(set(at)) or at[-1] > iters):
        raise ConfigError(f"--disback_record_at must rise within 1..{iters} (seen: {list(at)})")


def _check_schedule(args: argparse.Namespace) -> None:
    name = args.disback_schedule or _implied_schedule(args) or ""
    settings = args.disback_schedule_settings or {}
    for owner, field in FIELDS.items():
        other = name in (*FIELDS, Adaptive.name) and name != owner
        if other and (getattr(args, f"disback_{field}") is not None or field in settings):
            own = FIELDS.get(name, 'schedule_settings, e.g. \'{"cap": 1000, "every": 50}\'')
            raise ConfigError(
                f"--disback_{field} belongs to --disback_schedule {owner}; {name} takes "
                f"--disback_{own}"
            )
    needed = None if args.disback_schedule is None else FIELDS.get(args.disback_schedule)
    if needed and getattr(args, f"disback_{needed}") is None and needed not in settings:
        raise ConfigError(f"--disback_schedule {name} needs --disback_{needed}")


def _check_folder(args: argparse.Namespace) -> None:
    """A path that lies there and that no recording flag speaks of is whole, or gone on with."""
    reuse = args.disback_record == "reuse"
    if args.disback_arm == "fixed" or not (reuse or "record" in left_open(args)):
        return
    folder = Path(args.disback_path)
    if not (folder / FILE_NAME).exists():
        if reuse:
            raise ConfigError(
                f"{folder} holds no path to reuse: leave --disback_record reuse out, or give the "
                "folder of a recorded path"
            )
        return
    manifest = read_manifest(folder)
    is_resumed = any(getattr(args, name, None) for name in RESUMES)
    if not manifest.complete and (reuse or (manifest.nodes and not is_resumed)):
        nodes = count(len(manifest.nodes), "node")
        raise ConfigError(
            f"{folder} holds an unfinished path ({nodes}): resume the run that records it from "
            "its checkpoint, with the --disback_... arguments it was started with, or delete the "
            "folder"
        )


def _schedule_name(args: argparse.Namespace, automatic: bool) -> str:
    usual = "adaptive" if automatic else "fixed"
    return args.disback_schedule or _implied_schedule(args) or usual


def _implied_schedule(args: argparse.Namespace) -> str | None:
    settings = args.disback_schedule_settings or {}
    for name, field in FIELDS.items():
        if getattr(args, f"disback_{field}") is not None or field in settings:
            return name
    return None
