"""Files that are replaced all together or not at all."""

import filecmp
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from disback_plugin.patching.engine import PatchError
from disback_plugin.patching.inside import inside


@contextmanager
def only_writer(root: Path) -> Iterator[None]:
    """PatchError where another command is writing into this tree; the lock leaves no file."""
    if sys.platform == "win32":  # a folder cannot be locked there
        yield
        return
    import fcntl

    descriptor = os.open(root, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PatchError(
                    f"{root} is being patched or reverted by another command: wait for it"
                ) from None
        yield
    finally:
        os.close(descriptor)


def replace_all(root: Path, changes: Sequence[tuple[str, bytes | None]]) -> None:
    """Give files (relative to `root`) these bytes, or remove them (None), in this order.

    A file may come twice. All new contents and a copy of every old one are on disk before the
    first file is renamed, so that undoing needs no space. File modes stay. Raises PatchError
    with file and reason; then every file and folder is as before, or it names those that are not.
    """
    work, name = _Work(root), ""
    try:
        for name, content in changes:
            work.prepare(name, content)
        for name, temp in work.steps:
            work.carry_out(name, temp)
    except BaseException as error:
        lost = work.undo()
        if not isinstance(error, OSError):
            raise
        end = "nothing was changed"
        if lost:
            end = f"not put back: {', '.join(lost)}; revert --force once they can be written"
        reason = error.strerror or error
        raise PatchError(f"{root}: cannot write {name}: {reason}; {end}") from error
    finally:
        work.clean()


class _Work:
    """The temp files of one replacement."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[tuple[str, Path | None]] = []
        self._before: dict[str, Path | None] = {}  # file -> copy of it; None: it was not there
        self._begun: list[str] = []
        self._folders: list[Path] = []
        self._temps: list[Path] = []

    def prepare(self, name: str, content: bytes | None) -> None:
        target = inside(self.root, name)
        self._make(target.parent)
        if name not in self._before:
            self._copy(name, target)
        if content is None:
            self.steps.append((name, None))
            return
        temp = self._temp(target, str(len(self.steps)))
        with temp.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            shutil.copymode(target, temp)
        self.steps.append((name, temp))

    def carry_out(self, name: str, temp: Path | None) -> None:
        self._begun.append(name)
        if temp is None:
            (self.root / name).unlink(missing_ok=True)
        else:
            os.replace(temp, self.root / name)

    def undo(self) -> list[str]:
        """Put back what was replaced, the last one first; returns what could not be.

        It stops at the first failure: what came earlier (the ledger) still describes the rest.
        """
        names = list(dict.fromkeys(reversed(self._begun)))
        for index, name in enumerate(names):
            target, copy = self.root / name, self._before[name]
            try:
                if copy is None:
                    target.unlink(missing_ok=True)
                elif not (target.exists() and filecmp.cmp(copy, target, shallow=False)):
                    os.replace(copy, target)
            except OSError:
                return names[index:]
        self.clean()
        for folder in reversed(self._folders):
            with suppress(OSError):
                folder.rmdir()
        return []

    def clean(self) -> None:
        for temp in self._temps:
            with suppress(OSError):
                temp.unlink(missing_ok=True)

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir()
            self._folders.append(folder)

    def _copy(self, name: str, target: Path) -> None:
        for stale in temps_of(target):
            stale.unlink()
        self._before[name] = None
        if target.exists():
            copy = self._temp(target, "before")
            shutil.copy2(target, copy)
            self._before[name] = copy

    def _temp(self, target: Path, what: str) -> Path:
        self._temps.append(target.with_name(_prefix(target) + what))
        return self._temps[-1]


def temps_of(target: Path) -> list[Path]:
    """What a command that was killed left beside a file."""
    if not target.parent.is_dir():
        return []
    own = re.compile(re.escape(_prefix(target)) + r"(\d+|before)")
    return sorted(file for file in target.parent.iterdir() if own.fullmatch(file.name))


def _prefix(target: Path) -> str:
    return f".{target.name}.disback-"
