"""What this process takes: memory of its own, bytes that it reads, and whether it is at rest."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None)
_TRIM, _MALLOPT = (getattr(_LIBC, name, None) for name in ("malloc_trim", "mallopt"))  # of glibc
_MMAP_THRESHOLD, _LARGE = -3, 1 << 16
_PAGE = os.sysconf("SC_PAGE_SIZE")


def own_memory() -> int:
    """Bytes that no file or other process shares (RssAnon)."""
    resident, shared = (int(word) for word in Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * _PAGE


def kept_memory() -> int:
    """The same once what was freed is given back, which glibc does for large pieces alone."""
    if _TRIM is not None:
        _TRIM(0)
    return own_memory()


def give_back_at_once() -> None:
    """From here on what is freed is given back, also between pieces that are held.

    Else torch's own gathering under gloo leaves holes, and they count as kept.
    """
    if _MALLOPT is not None:
        _MALLOPT(_MMAP_THRESHOLD, _LARGE)


def mapped_memory() -> int:
    """Bytes of files that are mapped and were looked at."""
    return int(Path("/proc/self/statm").read_text().split()[2]) * _PAGE


def bytes_read() -> int:
    """What `read` gave so far, from a disk or its cache; files that are mapped are not in it."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def cache(file: Path, *, drop: bool) -> None:
    """Have the system's cache hold a file, or drop it, so that it is read from the disk."""
    with file.open("rb", buffering=0) as stream:
        if drop:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            room = bytearray(1 << 20)
            while stream.readinto(room):
                pass


class Peak:
    """The largest memory within the context, beyond what was there before; `own` and `mapped`."""

    own = mapped = 0

    def look(self) -> None:
        self.own = max(self.own, own_memory() - self._own)
        self.mapped = max(self.mapped, mapped_memory() - self._mapped)

    def __init__(self) -> None:
        self._own, self._mapped = kept_memory(), mapped_memory()  # what is free counts when taken


@contextmanager
def peak(every: float = 0.001) -> Iterator[Peak]:
    """Looks every millisecond, and once more at the end."""
    seen, stop = Peak(), threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            seen.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.look()


def settle() -> None:
    """Wait until nothing of DisBack runs in the background: its threads are named after it."""
    for thread in threading.enumerate():
        if thread.name.startswith("disback"):
            thread.join()
