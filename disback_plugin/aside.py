"""Folders that are whole or absent: built beside their place, then renamed into it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disback_plugin.errors import ConfigError
from disback_plugin.files import TEMP_PREFIX, sync
from disback_plugin.reading import cut


@contextmanager
def built_aside(folder: Path, force: bool = False) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` once the context ends well.

    What a killed process left beside is removed, or put back where nothing else is. Raises
    ConfigError where `folder` is a file, holds files (unless `force`), or holds files that the new
    one does not have: these are never removed.
    """
    folder = folder.resolve()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose a folder to write")
    _clear(folder)
    if folder.exists() and any(folder.iterdir()) and not force:
        raise ConfigError(f"{folder} exists and is not empty: choose another, or force (--force)")
    build = folder.with_name(f"{TEMP_PREFIX}{os.getpid()}-{folder.name}")
    old = build.with_name(f"{build.name}.old")
    build.mkdir(parents=True)
    try:
        yield build
        made = _inner(build)
        if folder.exists() and (more := sorted(_inner(folder) - made)):
            raise ConfigError(
                f"{folder} holds other files, which are not removed ({cut(', '.join(more[:3]))}): "
                "choose another folder"
            )
        for name in sorted(made):
            sync(build / name)
        if folder.exists():
            os.replace(folder, old)
        os.replace(build, folder)
        sync(folder.parent)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        for left in (build, old):
            shutil.rmtree(left, ignore_errors=True)


def _inner(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}


def _clear(folder: Path) -> None:
    """Take away what a process that is gone built here; put back what it had moved away."""
    for left in folder.parent.glob(f"{TEMP_PREFIX}*"):
        number, _, name = left.name.removeprefix(TEMP_PREFIX).partition("-")
        if name.removesuffix(".old") != folder.name or not number.isdigit() or _runs(int(number)):
            continue
        if name != folder.name and not folder.exists():
            os.replace(left, folder)
        else:
            shutil.rmtree(left)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return process != os.getpid()
