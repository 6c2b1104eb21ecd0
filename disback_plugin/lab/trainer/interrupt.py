"""Ctrl-C, SIGTERM and a closed terminal: finish the step, write a checkpoint, then leave."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class RunInterrupted(Exception):  # noqa: N818 - asked for, so no error
    """A run was asked to stop and has written a checkpoint, from which it can be resumed."""

    def __init__(self, folder: Path, step: int, num_steps: int) -> None:
        where = f"after step {step} of {num_steps}; its checkpoint is written" if step else "early"
        super().__init__(f"{folder} stopped {where}. Resume to go on from there")
        self.folder, self.step, self.num_steps = folder, step, num_steps


class Interrupt:
    """While entered, the first signal sets `requested`; a second one stops at once.

    The handlers that were there before come back on leaving. A signal that is ignored, as SIGINT is
    for what a script starts in the background, stays so. Outside the main thread, where Python
    allows no handlers, only `request()` works.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def request(self) -> None:
        """Ask for a stop from code."""
        self.requested = True

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            heeded = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]
            for number in heeded:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
