"""Runs in processes of their own, a few at a time: small networks gain little from threads.

The processes are `python -m disback_plugin.lab.trainer.jobs_process`, which read the experiment's
config.yaml; nothing is pickled between us, and the caller's script needs no `__main__` guard.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import disback_plugin
from disback_plugin.config import Arm
from disback_plugin.errors import RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.overview import Overview
from disback_plugin.lab.trainer.run_folder import run_folder, run_name

POLL_SECONDS = 0.2
Run = tuple[Arm, int]
Inbox = queue.Queue[tuple["_Worker", dict[str, Any] | None]]


class _Worker:
    """A worker process; its messages arrive in `inbox`, None when it has ended."""

    def __init__(self, out: Path, number: int, num_threads: int, inbox: Inbox) -> None:
        self.log = out / f"worker-{number}.log"
        self.run: Run | None = None
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.jobs_process", str(out), str(num_threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(num_threads),
                start_new_session=True,  # Ctrl-C reaches us alone, and we tell the workers once
            )
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def give(self, run: Run) -> None:
        """Have it do `run` next."""
        self.run = run
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: its end is in the inbox, or soon will be
            self.process.stdin.write(f"{run[0]} {run[1]}\n".encode())
            self.process.stdin.flush()

    def stop(self) -> None:
        """Ask for an end, with a checkpoint if there is a run under way."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def _read(self, inbox: Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            inbox.put((self, json.loads(line)))
        self.process.wait()
        inbox.put((self, None))


class _Pool:
    """Gives runs to workers until none is left, one fails, or we are interrupted."""

    def __init__(self, out: Path, runs: Sequence[Run], overview: Overview) -> None:
        self.out, self.waiting, self.overview = out, list(runs), overview
        self.inbox: Inbox = queue.Queue()
        self.workers: list[_Worker] = []
        self.not_begun: list[Run] = []
        self.failure: str | None = None
        self.interrupted: tuple[Run, int] | None = None

    def start(self, jobs: int, num_threads: int) -> None:
        for number in range(jobs):
            worker = _Worker(self.out, number, num_threads, self.inbox)
            self.workers.append(worker)
            worker.give(self.waiting.pop(0))

    def stop(self) -> None:
        self.not_begun += self.waiting
        self.waiting.clear()
        for worker in self.workers:
            worker.stop()

    def receive(self) -> None:
        """Handle one message, if one comes in time."""
        try:
            worker, message = self.inbox.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        if message is None:
            self._ended(worker)
        elif message["event"] == "step":
            assert worker.run is not None
            self.overview.step(run_name(*worker.run), message)
        elif message["event"] == "complete":
            assert worker.run is not None
            self.overview.done(run_name(*worker.run))
            worker.run = None
            if self.waiting:
                worker.give(self.waiting.pop(0))
            else:
                worker.stop()
        elif message["event"] == "interrupted":
            assert worker.run is not None
            self.interrupted, worker.run = (worker.run, message["step"]), None
        else:
            self._fail(worker, message["message"])

    def _ended(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        if worker.run is not None:
            self._fail(worker, f"its process ended with exit code {worker.process.returncode}")

    def _fail(self, worker: _Worker, reason: str) -> None:
        assert worker.run is not None
        name = run_name(*worker.run)
        self.failure = self.failure or f"run {name} failed: {reason}\n(log: {worker.log})"
        worker.run = None
        self.stop()


def run_in_workers(
    config: ExperimentConfig, out: Path, runs: Sequence[Run], jobs: int, interrupt: Interrupt
) -> None:
    """Do all `runs`, `jobs` at a time.

    A failure or an interrupt stops the others, each with a checkpoint; then RunError with the
    failed run's name and message, or RunInterrupted.
    """
    jobs = min(jobs, len(runs))
    num_threads = config.num_threads or max((os.cpu_count() or 1) // jobs, 1)
    overview = Overview(config, len(runs))
    pool = _Pool(out, runs, overview)
    try:
        pool.start(jobs, num_threads)
        while pool.workers:
            if interrupt.requested:
                pool.stop()
            pool.receive()
    finally:
        pool.stop()
        overview.close()
    if pool.failure is not None:
        raise RunError(pool.failure)
    if pool.interrupted is not None:
        run, step = pool.interrupted
        raise RunInterrupted(run_folder(out, *run), step, config.distill.num_steps)
    if pool.not_begun:
        raise RunInterrupted(run_folder(out, *pool.not_begun[0]), 0, config.distill.num_steps)


def _environment(num_threads: int) -> dict[str, str]:
    """Ours, with the workers' share of threads and this very package first on the path."""
    here = str(Path(disback_plugin.__file__).parent.parent)
    search = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    num = str(num_threads)
    return {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": num, "MKL_NUM_THREADS": num}
