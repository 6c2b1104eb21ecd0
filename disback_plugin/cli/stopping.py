"""SIGTERM and a closed terminal stop a command as Ctrl-C does: its cleaning up is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def stoppable() -> Iterator[None]:
    """While entered, SIGTERM and SIGHUP raise KeyboardInterrupt, once; later ones are ignored.

    What was ignored when the command started stays so: `nohup` and `&` in a script ignore SIGINT or
    SIGHUP. Outside the main thread, where Python allows no handlers, nothing changes.
    """
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        for asked in before:
            signal.signal(asked, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
