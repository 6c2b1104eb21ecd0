"""Progress of a run: a bar on a terminal, or messages for the process that started this one."""

import json
import sys
from contextlib import suppress
from io import RawIOBase
from typing import Any

from disback_plugin.lab.config.experiment import ExperimentConfig


class Progress:
    """Told about every step, and about numbers now and then; this one shows nothing."""

    def start(self, name: str, num_steps: int, step: int) -> None:
        """A run begins, or goes on, at `step`."""

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        """So many steps are done."""

    def close(self) -> None:
        """The run ends here."""


class Bar(Progress):
    """A tqdm bar with stage, node and losses."""

    def start(self, name: str, num_steps: int, step: int) -> None:
        from tqdm import tqdm

        self._bar = tqdm(total=num_steps, initial=step, desc=name, unit="step", leave=False)

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        self._bar.update(step - self._bar.n)
        if numbers is not None:
            self._bar.set_postfix_str(describe(numbers), refresh=False)

    def close(self) -> None:
        self._bar.close()


class Messages(Progress):
    """JSON lines on a pipe: `{"event": "step", "step": 10, ...}`, when there are numbers.

    A reader that is gone is no error here: see `jobs_process`, which then stops with a checkpoint.
    """

    def __init__(self, stream: RawIOBase) -> None:
        self._stream = stream

    def start(self, name: str, num_steps: int, step: int) -> None:
        self.send({"event": "step", "step": step, "num_steps": num_steps})

    def step(self, step: int, numbers: dict[str, Any] | None) -> None:
        if numbers is not None:
            self.send({"event": "step", "step": step, "numbers": describe(numbers)})

    def send(self, event: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            self._stream.write(json.dumps(event).encode() + b"\n")


def make_progress(enabled: bool, is_main: bool) -> Progress:
    """A bar for the main process where stderr is a terminal, else silence."""
    return Bar() if enabled and is_main and sys.stderr.isatty() else Progress()


def describe(numbers: dict[str, Any]) -> str:
    """`stage=record node=0 fake_loss=0.123`: a train line's words and losses."""
    shown = {k: v for k, v in numbers.items() if k in {"stage", "node"} or k.endswith("loss")}
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in shown.items()
        if value is not None
    )


class Overview:
    """Sums the steps of all runs; where there is no terminal, a line a finished run."""

    def __init__(self, config: ExperimentConfig, num_runs: int) -> None:
        from tqdm import tqdm

        self._steps: dict[str, int] = {}
        total, hidden = num_runs * config.distill.num_steps, not config.logging.progress
        hidden = hidden or not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=config.name, unit="step", leave=False, disable=hidden)

    def step(self, name: str, message: dict[str, Any]) -> None:
        """A message of its process: run `name` has done `message["step"]` steps."""
        self._steps[name] = message["step"]
        self._bar.set_postfix_str(f"{name} {message.get('numbers', '')}", refresh=False)
        self._bar.update(sum(self._steps.values()) - self._bar.n)

    def done(self, name: str) -> None:
        """Run `name` has come to its end; without a bar, one line says so."""
        if self._bar.disable:
            print(f"{name}: done", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._bar.close()
