"""One writer a path: a lock on its folder, held by the process that records or repairs."""

import os
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

from filelock import FileLock, Timeout

from disback_plugin.errors import PathError
from disback_plugin.path.behind import Behind, CheckStop

FILE_NAME = ".lock"


# by process and folder: a fork inherits the table, but holds nothing
_held: "WeakValueDictionary[tuple[int, Path], WriterLock]" = WeakValueDictionary()


class WriterLock:
    """Held from its making until `release`, or until it or its process is gone.

    behind: what its holder writes in the background; waited for before others may write.

    Raises PathError where another process holds it. Within a process the newer one takes over from
    one that was left behind (a cell of a notebook run again); the older is told by `check`.
    """

    def __init__(self, folder: Path, *, take_over: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._key, self.behind = folder, _key(folder), Behind()
        older = _held.get(self._key)
        if older is not None and take_over:
            older.release()
        self._lock = FileLock(folder / FILE_NAME)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise PathError(
                f"{folder} is being written by another run or command: wait for it, or give "
                "another folder"
            ) from None
        _held[self._key] = self

    def check(self) -> None:
        """Raise PathError unless it is still held."""
        if _held.get(self._key) is not self:
            raise PathError(
                f"another session of this process records into {self.folder} now: this one is over"
            )

    def write_behind(self, work: Callable[[CheckStop], object], what: str) -> None:
        """Have `work` done in the background, after the work before it; held until it is done."""

        def held(check_stop: CheckStop) -> None:
            self.check()
            work(check_stop)

        self.behind.start(held, what)

    def release(self) -> None:
        """Let others write; leaves no file behind. A second call does nothing."""
        self.behind.join()
        if _held.get(self._key) is self:
            del _held[self._key]
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def wait_for_writer(folder: Path) -> None:
    """Return when what this process writes there in the background is there, or has failed."""
    held = _held.get(_key(folder))
    if held is not None:
        held.behind.join()


def _key(folder: Path) -> tuple[int, Path]:
    return os.getpid(), Path(os.path.realpath(folder))
