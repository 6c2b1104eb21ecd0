"""Folders that are whole or absent: built beside their place, then renamed into it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from disback_plugin.errors import ConfigError
from disback_plugin.files import dead_temps, remove, sync, temp_for
from disback_plugin.reading import cut


@contextmanager
def built_aside(folder: Path, force: bool = False) -> Iterator[Path]:
    """Gives a folder to write into, which takes the place of `folder` once the context ends well.

    What a killed process left beside is removed, or put back where nothing else is. Raises
    ConfigError where `folder` is a file, holds files (unless `force`), or holds files that the new
    one does not have: these are never removed.
    """
    folder = Path(os.path.realpath(folder))  # resolve() raises for a loop of links
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: choose a folder to write")
    moved_away = folder.with_name(f"{folder.name}.old")
    for left in dead_temps(moved_away):
        if not folder.exists():
            os.replace(left, folder)
    build, old = temp_for(folder), temp_for(moved_away)
    if folder.exists() and any(folder.iterdir()) and not force:
        raise ConfigError(f"{folder} exists and is not empty: choose another, or force (--force)")
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
            remove(left)


def _inner(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}
