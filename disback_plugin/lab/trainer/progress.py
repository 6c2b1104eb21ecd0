"""Progress of runs, a line each: bars on a terminal or in a notebook, in a log now and then a line.

Or messages, for the process that started this one and shows them.
"""

import json
import sys
import time
from collections import deque
from contextlib import suppress
from io import RawIOBase
from typing import Any

from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.results.under_way import duration

PLAIN_SECONDS = 30.0  # between two lines of a run in a log
SPEED_SECONDS = 30.0  # over which a speed is taken
BAR = "{desc}: {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt} {remaining} left{postfix}"


class Progress:
    """Told about every step, and about numbers now and then; this one shows nothing."""

    def start(self, name: str, num_steps: int, step: int, batch_size: int) -> None:
        """A run begins, or goes on, at `step`."""

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        """So many steps are done."""

    def close(self) -> None:
        """The run ends here."""


class Speed:
    """Steps a second over the last half minute."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def at(self, step: int) -> float:
        """After `step` steps; 0 before a second mark."""
        now = time.monotonic()
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > SPEED_SECONDS:
            self._marks.popleft()
        begun, first = self._marks[0]
        taken = now - begun
        return (step - first) / taken if taken > 0 and step > first else 0.0


class Bar(Progress):
    """A bar with time left, stage, node, losses and images a second."""

    def start(self, name: str, num_steps: int, step: int, batch_size: int) -> None:
        from tqdm.auto import tqdm

        self._bar = tqdm(
            total=num_steps, initial=step, desc=name, leave=False, bar_format=BAR, file=sys.stderr
        )
        self._speed, self._batch_size = Speed(), batch_size
        self._speed.at(step)

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        self._bar.update(step - self._bar.n)
        if numbers is not None:
            images = self._speed.at(step) * self._batch_size
            self._bar.set_postfix_str(f"{describe(numbers)} images/s={images:,.0f}", refresh=False)

    def close(self) -> None:
        self._bar.close()


class Lines(Progress):
    """For logs: a whole line every half minute, none of which is written over."""

    def start(self, name: str, num_steps: int, step: int, batch_size: int) -> None:
        self._name, self._num_steps, self._batch_size = name, num_steps, batch_size
        self._speed, self._told = Speed(), time.monotonic()
        self._speed.at(step)

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        if numbers is None:
            return
        speed = self._speed.at(step)
        if time.monotonic() - self._told < PLAIN_SECONDS or not speed:
            return
        self._told = time.monotonic()
        left = duration((self._num_steps - step) / speed)
        told = [f"step {step} of {self._num_steps}", describe(numbers)]
        told += [f"{speed * self._batch_size:,.0f} images/s", f"{left} left"]
        print(f"{self._name}: {', '.join(filter(None, told))}", file=sys.stderr, flush=True)


class Messages(Progress):
    """JSON lines on a pipe: `{"event": "step", "step": 10, ...}`, when there are numbers.

    A reader that is gone is no error here: see `jobs_process`, which then stops with a checkpoint.
    """

    def __init__(self, stream: RawIOBase) -> None:
        self._stream = stream

    def start(self, name: str, num_steps: int, step: int, batch_size: int) -> None:
        self.send({"event": "step", "step": step, "num_steps": num_steps, "batch_size": batch_size})

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        if numbers is not None:
            self.send({"event": "step", "step": step, "numbers": shown(numbers)})

    def send(self, event: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            self._stream.write(json.dumps(event).encode() + b"\n")


class Overview:
    """A line for each of the runs that go on side by side in other processes."""

    def __init__(self, config: ExperimentConfig) -> None:
        self._enabled = config.logging.progress
        self._lines: dict[str, Progress] = {}

    def step(self, name: str, message: dict[str, Any]) -> None:
        """A message of its process: run `name` has done `message["step"]` steps."""
        if name not in self._lines:
            line = self._lines[name] = make_progress(self._enabled, is_main=True)
            line.start(name, message["num_steps"], message["step"], message["batch_size"])
        else:
            self._lines[name].step(message["step"], message.get("numbers"))

    def done(self, name: str) -> None:
        """Run `name` has come to its end: one line that stays says so."""
        if name in self._lines:
            self._lines.pop(name).close()
        text = f"{name}: done"
        if self._enabled and in_place():
            from tqdm.auto import tqdm

            tqdm.write(text, file=sys.stderr)  # above the bars
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """All bars end here."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()


def make_progress(enabled: bool, is_main: bool) -> Progress:
    """For the main process a bar, or lines where nothing can be written over; else silence."""
    if not (enabled and is_main):
        return Progress()
    return Bar() if in_place() else Lines()


def in_place() -> bool:
    """Whether what is shown can be written over: a terminal, or a notebook with its widgets."""
    if sys.stderr.isatty():
        return True
    if "IPython" not in sys.modules:
        return False
    from tqdm.auto import tqdm
    from tqdm.notebook import tqdm_notebook

    return issubclass(tqdm, tqdm_notebook)


def shown(numbers: dict[str, Any]) -> dict[str, Any]:
    """A train line's words and losses."""
    return {
        key: value
        for key, value in numbers.items()
        if value is not None and (key in {"stage", "node"} or key.endswith("loss"))
    }


def describe(numbers: dict[str, Any]) -> str:
    """`stage=record node=0 fake_loss=0.123`."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in shown(numbers).items()
    )
