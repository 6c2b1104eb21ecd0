"""The folders of an experiment and its runs: who wrote them, with which settings, how far."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import AcquireReturnProxy, FileLock, Timeout

from disback_plugin.config_base import parse_settings, read_yaml
from disback_plugin.distributed import on_main
from disback_plugin.errors import ConfigError, RunError
from disback_plugin.files import leftover_temps, remove, sha256, write_text
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.results.run_file import AGAIN, RUN, read_run_file
from disback_plugin.lab.results.writer import LOCK, forget_writer, tell_writer
from disback_plugin.schedule import without_removed
from disback_plugin.sealed import digest, fingerprints, read_sealed, write_sealed

CONFIG, VERSIONS = "config.yaml", "experiment.json"
TEACHER = "teacher"  # in VERSIONS: the digest of its reference.json
STUDENT, STUDENTS = "student.safetensors", "students"  # the last one; those kept on the way
_RESTORE = f"restore it, or start anew in another folder: all here goes by {CONFIG}"
_PACKAGES = ("disback_plugin", "torch", "accelerate", "safetensors", "numpy", "pydantic")


def run_name(arm: str, seed: int) -> str:
    """The folder name of a run, also its name in messages."""
    return f"{arm}-seed{seed}"


def run_folder(out: Path, arm: str, seed: int) -> Path:
    """`out`/runs/<arm>-seed<seed>."""
    return out / "runs" / run_name(arm, seed)


def is_complete(folder: Path) -> bool:
    """Whether the run in `folder` came to its end: its run.json says so, written last.

    Raises RunError where that is damaged, or of a run with another name.
    """
    if not os.path.lexists(folder / RUN):
        return False
    run = read_run_file(folder)
    if run_name(run.arm, run.seed) != folder.name:
        raise RunError(
            f"{folder / RUN} is of {run_name(run.arm, run.seed)}, its folder is {folder.name}: give"
            f" the folder its name back, or {AGAIN}"
        )
    return run.complete


def write_run(config: ExperimentConfig, folder: Path, arm: str, seed: int, *results: str) -> None:
    """Say in run.json what runs in `folder`; with `results`, its files, that it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"files": fingerprints(folder, results)} if results else {}
    write_sealed(
        folder / RUN,
        {
            "experiment": config.name,
            "arm": arm,
            "seed": seed,
            "num_steps": config.distill.num_steps,
            "primary": config.evaluation.primary,
            "thresholds": config.evaluation.thresholds,
            "status": "complete" if results else "running",
            **files,
        },
    )


def check_folder(config: ExperimentConfig, out: Path, resume: bool) -> bool:
    """Whether an experiment begins in `out`: there is nothing in it; False: this one goes on.

    Raises RunError for a folder that is not empty where `resume` is not asked for, that holds no
    experiment, or one with other settings (naming the keys).
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder")
    if not out.exists() or not set(out.iterdir()) - set(leftover_temps(out)):
        return True
    if not resume:
        raise RunError(f"{out} is not empty: resume it (--resume), or give another folder (--out)")
    if not (out / CONFIG).is_file():
        raise RunError(
            f"{out} holds no experiment ({CONFIG} is missing) to go on with: give another folder"
        )
    _check_same(_parse_config(out), config, out)
    return False


def write_settings(config: ExperimentConfig, out: Path, device: str) -> None:
    """Make `out`, and dump settings and versions into it."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / CONFIG, config.to_yaml())
    before = _known(out)
    teacher = {TEACHER: before[TEACHER]} if TEACHER in before else {}
    settings = {"config": digest(read_yaml(out / CONFIG))}
    write_sealed(out / VERSIONS, {**_versions(config, device), **settings, **teacher})


def check_own_teacher(out: Path, reference: Path) -> None:
    """Raise RunError where the finished teacher in `out` is that of another experiment."""
    if _known(out).get(TEACHER) not in (None, sha256(reference)):
        raise RunError(
            f"{reference.parent} is the teacher of another experiment, or was trained again: it is "
            f"not the one that {VERSIONS} knows, and runs here started from that; put it back, or "
            "start anew in another folder"
        )


def read_config(out: Path) -> ExperimentConfig:
    """The resolved settings of the experiment in `out`, also of an earlier version.

    Raises RunError where they are damaged, or not those that the experiment was started with.
    """
    config = _parse_config(out)
    _check_config(out)
    return config


def _parse_config(out: Path) -> ExperimentConfig:
    try:
        data = read_yaml(out / CONFIG)
        match data:
            case {"disback": {"schedule": dict(schedule)}}:
                data["disback"]["schedule"] = without_removed(schedule)
        return parse_settings(ExperimentConfig, data, str(out / CONFIG))
    except (ConfigError, UnicodeDecodeError) as error:
        raise RunError(f"{out / CONFIG} is damaged: {error}; {_RESTORE}") from None


def remember_teacher(out: Path, reference: Path) -> None:
    """Every run here starts from this teacher; RunError where some have started from another."""
    own, known, found = {CONFIG, VERSIONS, reference.parent.name}, _known(out), sha256(reference)
    if any(file.name not in own and file.name[0] != "." for file in out.iterdir()):
        check_own_teacher(out, reference)
    if known and known.get(TEACHER) != found:
        write_sealed(out / VERSIONS, {**known, TEACHER: found})


def _known(out: Path) -> dict[str, Any]:
    """What VERSIONS says; nothing where it was killed before it was written, or moved without."""
    file = out / VERSIONS
    return read_sealed(file, RunError, _RESTORE) if file.exists() else {}


def _check_config(out: Path) -> None:
    started_with = _known(out).get("config")
    if started_with not in (None, digest(read_yaml(out / CONFIG))):
        raise RunError(
            f"{out / CONFIG} is damaged, or was changed by hand: its settings are not those that"
            f" {VERSIONS} knows; {_RESTORE}"
        )


def check_ours(folder: Path, names: tuple[str, ...]) -> None:
    """Raise RunError for a folder that holds some of `names` and no run.json: whose are they?"""
    there = [name for name in names if os.path.lexists(folder / name)]
    if there and RUN not in there:
        raise RunError(
            f"{folder} holds {', '.join(there)}, but neither a checkpoint nor {RUN}: no run leaves"
            " that behind, so it is not deleted; move the folder away to start the run again"
        )


def clear_temps(*folders: Path) -> None:
    """Remove what killed writers left in folders that this process has locked."""
    for folder in folders:
        for file in leftover_temps(folder):
            remove(file)


def clear_run(folder: Path, names: tuple[str, ...]) -> None:
    """Remove what an earlier process left of a run that has no checkpoint, `names` and no more."""
    for name in names:
        target = folder / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def discard_untrained(out: Path, teacher: str) -> None:
    """Remove an experiment that failed before a step was trained: nothing to resume, or to see.

    teacher: the folder in `out` where the first steps leave their traces.
    """
    log = out / teacher / "metrics.jsonl"
    if (log.is_file() and log.stat().st_size) or any(out.glob(f"{teacher}/checkpoints/step_*")):
        return
    clear_run(out, (CONFIG, VERSIONS, teacher))
    if not any(out.iterdir()):
        out.rmdir()


def lock(folder: Path) -> AcquireReturnProxy:
    """Keep a second process from writing `folder` within the context, or until we are killed.

    Raises RunError where another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout:
        raise RunError(f"{folder} is being written by another process; wait for it") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """As `lock`, held by the main process; where it is taken, every process raises.

    `disback status` is told who holds it.
    """
    with ExitStack() as held:

        def take() -> None:
            held.enter_context(lock(folder))
            tell_writer(folder)
            held.callback(forget_writer, folder)

        on_main(take, f"locking {folder}")
        yield


def _check_same(saved: ExperimentConfig, now: ExperimentConfig, out: Path) -> None:
    before, after = _flat(saved.model_dump(mode="json")), _flat(now.model_dump(mode="json"))
    keys = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
    if keys:
        _check_config(out)
        changes = "; ".join(f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys)
        raise RunError(
            f"{out} was started with other settings ({changes}): go on with its own"
            f" {out / CONFIG}, or give another folder"
        )


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat.update(_flat(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat


def _versions(config: ExperimentConfig, device: str) -> dict[str, Any]:
    return {
        "name": config.name,
        "versions": {name: _version(name) for name in _PACKAGES},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git_commit": _git_commit(),
        "device": device,
        "threads": config.num_threads or torch.get_num_threads(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the source tree this package runs from, with `-dirty`; None if installed."""
    if _git("ls-files", "--error-unmatch", "run_folder.py") is None:
        return None  # a repository around an installed package is somebody else's
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*arguments: str) -> str | None:
    command, here = ["git", *arguments], Path(__file__).parent
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
