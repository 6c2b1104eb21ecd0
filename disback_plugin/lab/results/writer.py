"""Which process writes a folder: its number, machine and start, in the folder's lock file.

Only to tell a run that has died from one under way; what keeps a second writer out is the lock. It
is told by reading alone: to try the lock could turn away a process that is about to take it.
"""

import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Literal

LOCK = ".lock"
Writer = Literal["alive", "dead", "elsewhere", "none"]


def tell_writer(folder: Path) -> None:
    """Say that this process writes `folder`; where that cannot be said, nothing is lost."""
    number = os.getpid()
    said = {"process": number, "machine": socket.gethostname(), "started": _started(number)}
    with suppress(OSError):
        (folder / LOCK).write_text(json.dumps(said), encoding="utf-8")


def forget_writer(folder: Path) -> None:
    """This process has ended its work there, in whatever way but being killed."""
    with suppress(OSError):
        (folder / LOCK).write_bytes(b"")


def writer_of(folder: Path) -> Writer:
    """Whether the process that said so last still lives; `elsewhere`: on another machine.

    `none`: nobody has said so, or has ended his work; earlier versions do not say it.
    """
    try:
        said = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        number, machine, started = int(said["process"]), said["machine"], said["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return "none"
    if machine != socket.gethostname():
        return "elsewhere"
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return "dead"
    except OverflowError:  # no number of a process
        return "none"
    except OSError:  # somebody else's process
        pass
    return "alive" if _started(number) == started else "dead"


def _started(number: int) -> str | None:
    """When a process began, in its system's words: numbers are used again. None: not told here."""
    try:
        stat = Path(f"/proc/{number}/stat").read_text(errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    state, *fields = stat.rpartition(") ")[2].split()
    return None if state in "ZX" else f"{boot} {fields[18]}"
