"""Drives a job's steps: metrics lines, evaluation, checkpoints, exact resume, a clean stop.

Teacher training and distillation are both jobs. Step numbers in files count completed steps: the
line of step 100 is written after 100 steps, a node switch before the next one begins.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor

from disback_plugin.distributed import on_main
from disback_plugin.lab.config.experiment import CheckpointConfig
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.log import MetricsLog
from disback_plugin.lab.trainer.progress import Progress
from disback_plugin.lab.trainer.trackers import track

Line = dict[str, Any]


class Job(Protocol):
    """What can be driven. `passes`: network forward-equivalents per sample of a batch so far.

    batch_size: samples of all processes in a step.
    """

    num_steps: int
    batch_size: int
    passes: float

    def train_step(self, step: int) -> list[Line]:
        """Run step `step` (from 0) on every process; returns lines for metrics.jsonl.

        A line is of `step` unless it has a step of its own.
        """

    def status(self) -> Line:
        """Numbers of the last step, the same on every process; called on every process."""

    def evaluate(self, step: int) -> dict[str, float]:
        """Metrics after `step` steps, the same on every process; called on every process."""

    def diagnose(self, step: int) -> list[Line]:
        """Lines after the first step and at evaluations; called on the main process only.

        Like an evaluation not counted in seconds or passes; the training stays as it is.
        """

    def keep_student(self, step: int, seconds: float) -> None:
        """Write the student down for good, after `step` steps; called on every process."""

    def state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """What `restore` needs: JSON-able data and named groups of tensors."""

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint; called on every process."""


@dataclass(frozen=True)
class Rhythm:
    """Every how many steps; `evaluate` also before the first step and after the last.

    None: no evaluation at all, no students kept.
    """

    log: int
    evaluate: int | None
    checkpoint: CheckpointConfig
    students: int | None = None


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


class Driver:
    """One job in one folder."""

    def __init__(
        self,
        job: Job,
        folder: Path,
        rhythm: Rhythm,
        accelerator: Accelerator,
        interrupt: Interrupt,
        progress: Progress,
    ) -> None:
        self.job, self.folder, self.rhythm = job, folder, rhythm
        self.accelerator, self.interrupt, self.progress = accelerator, interrupt, progress
        self.checkpoints = CheckpointFolder(folder / "checkpoints", rhythm.checkpoint.keep)
        self.clock = Clock(accelerator.device)
        self.log: MetricsLog | None = None

    def run(self, checkpoint: Checkpoint | None) -> float:
        """Run to the end from `checkpoint` (None: from the start); returns the training seconds.

        Raises RunInterrupted when asked to stop: the step is finished and a checkpoint written.
        """
        step = self._start(checkpoint)
        job = self.job
        self.progress.start(self.folder.name, job.num_steps, step, job.batch_size)
        try:
            with self.clock.running():
                while step < self.job.num_steps:
                    self._write(self.job.train_step(step), step)
                    step += 1
                    self._after(step)
        finally:
            self.progress.close()
            if self.log is not None:
                self.log.close()
        return self.clock.seconds

    def _start(self, checkpoint: Checkpoint | None) -> int:
        offset, digest, step = 0, None, 0
        if checkpoint is not None:
            self.job.restore(checkpoint)
            self.job.passes = checkpoint.state["passes"]
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
            step, offset = checkpoint.step, checkpoint.state["metrics_bytes"]
            digest = checkpoint.state.get("metrics_sha256")
            self.clock = Clock(self.accelerator.device, checkpoint.state["seconds"])
        if self.accelerator.is_main_process:
            self.log = MetricsLog(self.folder / "metrics.jsonl", offset, digest)
        if checkpoint is None and self.rhythm.evaluate is not None:
            self._evaluate(0)
        return step

    def _after(self, step: int) -> None:
        """What is due after `step` steps: a train line, an evaluation, a checkpoint, a stop."""
        last = step == self.job.num_steps
        stop = not last and self._stop_requested()
        numbers = None
        if step % self.rhythm.log == 0 or last:
            numbers = self.job.status()
            self._write([{"kind": "train", **numbers}], step)
        self.progress.step(step, numbers)
        every = self.rhythm.evaluate
        due = every is not None and (step % every == 0 or last)
        if due or step == 1:
            with self.clock.stopped():
                more = on_main(lambda: self.job.diagnose(step), f"diagnosing step {step}")
                self._write(more, step)
                if due:
                    self._evaluate(step)
        if self.rhythm.students is not None and step % self.rhythm.students == 0:
            with self.clock.stopped():
                self.job.keep_student(step, self.clock.seconds)
        if step % self.rhythm.checkpoint.every == 0 or last or stop:
            with self.clock.stopped():
                self._save(step)
        if stop:
            raise RunInterrupted(self.folder, step, self.job.num_steps)

    def _write(self, lines: list[Line], step: int) -> None:
        for line in lines:
            common = {"step": step, "seconds": self.clock.seconds, "passes": self.job.passes}
            full = {"kind": line["kind"], **common, **line}
            if self.log is not None:
                self.log.write(full)
                track(self.accelerator, full)

    def _evaluate(self, step: int) -> None:
        self._write([{"kind": "eval", "metrics": self.job.evaluate(step)}], step)

    def _save(self, step: int) -> None:
        state, tensors = self.job.state()

        def write() -> None:
            assert self.log is not None
            scaler = self.accelerator.scaler
            done = {
                "scaler": None if scaler is None else scaler.state_dict(),
                "seconds": self.clock.seconds,
                "passes": self.job.passes,
                "metrics_bytes": self.log.offset(),
                "metrics_sha256": self.log.digest,
            }
            self.checkpoints.save(Checkpoint(step, {**state, **done}, tensors))

        on_main(write, f"writing the checkpoint of step {step}")

    def _stop_requested(self) -> bool:
        """Whether any process was asked to stop: all of them must stop at the same step."""
        if self.accelerator.num_processes == 1:
            return self.interrupt.requested
        asked = torch.tensor(float(self.interrupt.requested), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum").item() > 0)
