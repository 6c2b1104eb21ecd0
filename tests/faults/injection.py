"""Lets the N-th call that changes a folder kill the process, or fail as a full or closed disk does.

Seen: what Python's audit events and the functions replaced here see. safetensors and LMDB write in
native code: their calls are one change each.
"""

import builtins
import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

KILL, FULL, DENIED = "kill", "disk full", "no permission"
NEEDS_SPACE = {"open", "write", "fsync", "os.mkdir", "os.symlink", "os.link", "commit", "save"}
NAMED = {  # audit event -> position of what is changed
    **{"os.rename": 1, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.symlink": 1},
    **{"os.chmod": 0, "os.link": 1, "os.truncate": 0},
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Injector:
    """`calls` names every change below `scope`; the `at`-th (from 1) is where the fault is.

    A full disk fails from there on, for all that needs space; a missing permission fails once.
    """

    def __init__(self, scope: Path, fault: str = "", at: int = 0) -> None:
        self.scope, self.fault, self.at = f"{scope.resolve()}{os.sep}", fault, at
        self.calls: list[str] = []
        self._busy = False

    def change(
        self,
        kind: str,
        place: Any,
        torn: Callable[[], None] | None = None,
        error: Callable[[int], Exception] | None = None,
    ) -> None:
        """A change is about to be made: `torn` makes half of it, `error` what failing raises."""
        where = _where(place)
        if self._busy or not where.startswith(self.scope):
            return
        self.calls.append(kind)
        now = len(self.calls)
        number = 0
        if self.fault == FULL and now >= self.at and kind in NEEDS_SPACE:
            number = errno.ENOSPC
        elif self.fault in (KILL, DENIED) and now == self.at:
            number = errno.EACCES
        if not number:
            return
        self._busy = True
        if torn and self.fault != DENIED:
            torn()
        if self.fault == KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        self._busy = False
        raise error(number) if error else OSError(number, os.strerror(number), where)

    @contextmanager
    def pause(self):
        """For what the test itself writes."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def install(self) -> None:
        """For the rest of this process: audit hooks stay."""
        sys.addaudithook(self._audit)
        builtins.open = io.open = self._opening(io.open)
        for name in ("fsync", "fdatasync", "write"):
            setattr(os, name, self._of_descriptor(getattr(os, name), name.replace("data", "")))
        real = os.sendfile
        os.sendfile = lambda out, *rest: self.change("write", out) or real(out, *rest)
        self._watch_safetensors()
        with suppress(ImportError):
            self._watch_lmdb()

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & WRITES and isinstance(path, str | bytes):
                self.change("open", path)
        elif event in NAMED:
            place = args[NAMED[event]]
            folder = args[-1] if event != "os.truncate" else -1
            if isinstance(folder, int) and folder >= 0 and not isinstance(place, int):
                place = os.path.join(_where(folder), os.fspath(place))
            self.change(event, place)

    def _opening(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            stream = real(file, mode, *rest, **options)
            return _Stream(stream, self) if set(mode) & set("wax+") else stream

        return opened

    def _of_descriptor(self, real: Callable[..., Any], kind: str) -> Callable[..., Any]:
        def call(descriptor: int, *rest: Any) -> Any:
            self.change(kind, descriptor)
            return real(descriptor, *rest)

        return call

    def _watch_safetensors(self) -> None:
        import safetensors.torch as module
        from safetensors import SafetensorError

        real = module.serialize_file

        def serialize_file(tensors: Any, filename: Any, **options: Any) -> None:
            def torn() -> None:  # its own temp file, as a kill leaves it
                real(tensors, filename, **options)
                half = Path(filename).read_bytes()[:-40]
                Path(filename).unlink()
                Path(filename).with_name(".tmpFaults").write_bytes(half)

            def error(number: int) -> Exception:
                (Path(filename).with_name(".tmpFaults")).unlink(missing_ok=True)
                return SafetensorError(f"I/O error: {os.strerror(number)} (os error {number})")

            self.change("save", filename, torn, error)
            with self.pause():
                real(tensors, filename, **options)

        module.serialize_file = serialize_file

    def _watch_lmdb(self) -> None:
        import lmdb

        real = lmdb.open

        def opened(path: str, **options: Any) -> Any:
            if options.get("readonly"):
                return real(path, **options)
            self.change("open", path, error=lambda number: lmdb.Error(os.strerror(number)))
            return _Environment(real(path, **options), self, path)

        lmdb.open = opened


class _Stream:
    """A file opened for writing."""

    def __init__(self, stream: Any, injector: Injector) -> None:
        self._stream, self._injector = stream, injector

    def write(self, data: Any) -> int:
        def torn() -> None:
            self._stream.write(data[: len(data) // 2])
            self._stream.flush()

        self._injector.change("write", self._stream.fileno(), torn)
        return self._stream.write(data)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def truncate(self, size: int | None = None) -> int:
        self._injector.change("os.truncate", self._stream.fileno())
        return self._stream.truncate(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.close()


class _Environment:
    """An LMDB opened for writing: a transaction that ends is a change, and so is a flush."""

    def __init__(self, environment: Any, injector: Injector, path: str) -> None:
        self._environment, self._injector, self._path = environment, injector, path

    def _change(self) -> None:
        import lmdb

        def error(number: int) -> Exception:
            kind = lmdb.DiskError if number == errno.ENOSPC else lmdb.Error
            return kind(f"mdb_txn_commit: {os.strerror(number)}")

        self._injector.change("commit", os.path.join(self._path, "data.mdb"), error=error)

    @contextmanager
    def begin(self, **options: Any):
        with self._environment.begin(**options) as transaction:
            yield transaction
            self._change()

    def sync(self, *rest: Any) -> None:
        self._change()
        self._environment.sync(*rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


def _where(place: Any) -> str:
    """The absolute path of a name, or of an open descriptor."""
    if isinstance(place, int):
        try:
            return os.readlink(f"/proc/self/fd/{place}")
        except OSError:
            return ""
    return os.path.abspath(os.fsdecode(place))
