"""Training seconds, without evaluation and checkpoints, carried over a resume."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Clock:
    """Counts while running; `seconds` carries over a resume."""

    def __init__(self, device: torch.device, seconds: float = 0.0) -> None:
        self.device, self._before = device, seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._before + running

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time spent inside."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._before, self._since = self.seconds, None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Inside `running`: do not count the time spent inside; waits for the device first."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._before, self._since = self.seconds, None
        try:
            yield
        finally:
            self._since = time.perf_counter()
