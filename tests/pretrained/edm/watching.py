"""Sees what Python itself would tell an auditor while a file is read."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_seen: list[str] | None = None
_FORBIDDEN = ("os.", "subprocess.", "ctypes.", "socket.", "shutil.", "pickle.", "marshal.", "code.")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event in ("exec", "compile", "import") or event.startswith(_FORBIDDEN):
        _seen.append(f"{event} {arguments[:1]}")
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _seen.append(f"open {arguments[:2]}")


"".encode("unicode_escape")  # its codec is imported at first use, by error messages
sys.addaudithook(_hook)  # for the life of the process, so it does nothing outside `watched`


@contextmanager
def watched() -> Iterator[list[str]]:
    """The list of executions, imports, unpickled names, processes and writes so far."""
    global _seen
    _seen = found = []
    try:
        yield found
    finally:
        _seen = None
