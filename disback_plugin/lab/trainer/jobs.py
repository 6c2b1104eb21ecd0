"""Runs in processes of their own, a few at a time: small networks gain little from threads.

A process is `python -m disback_plugin.lab.trainer.jobs_process OUT ARM SEED`, which reads the
experiment's config.yaml; nothing is pickled between us, and the caller's script needs no `__main__`
guard.
"""

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import disback_plugin
from disback_plugin.config import Arm
from disback_plugin.errors import RunError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.trainer.interrupt import Interrupt, RunInterrupted
from disback_plugin.lab.trainer.progress import Overview
from disback_plugin.lab.trainer.run_folder import run_folder, run_name

logger = logging.getLogger("disback")

POLL_SECONDS = 0.2
LOG = "process.log"
Run = tuple[Arm, int]
Inbox = queue.Queue[tuple["_Job", dict[str, Any] | None]]


class _Job:
    """A run in its process; messages arrive in `inbox`, None when the process has ended."""

    def __init__(self, out: Path, run: Run, num_threads: int, inbox: Inbox) -> None:
        self.name, self.folder = run_name(*run), run_folder(out, *run)
        self.end: dict[str, Any] | None = None  # the message on how the run ended
        self.folder.mkdir(parents=True, exist_ok=True)
        module = f"{__package__}.jobs_process"
        with (self.folder / LOG).open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, str(out), run[0], str(run[1])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(num_threads),
                start_new_session=True,  # Ctrl-C reaches us alone, and we tell each job once
            )
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def stop(self) -> None:
        """Ask for an end with a checkpoint: by the end of its stdin, as when we are gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    @property
    def failure(self) -> str | None:
        """Why an ended run is neither complete nor interrupted."""
        end = self.end
        if end is None:
            reason = f"its process ended with exit code {self.process.returncode}"
        elif end["event"] == "error":
            reason = end["message"]
        else:
            return None
        return f"run {self.name} failed: {reason}\n(log: {self.folder / LOG})"

    def _read(self, inbox: Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            inbox.put((self, json.loads(line)))
        self.process.wait()
        inbox.put((self, None))


def run_side_by_side(
    config: ExperimentConfig, out: Path, runs: Sequence[Run], jobs: int, interrupt: Interrupt
) -> None:
    """Do all `runs`, `jobs` at a time.

    A failure or an interrupt stops the others, each with a checkpoint; then RunError with the
    failed run's name and message, or RunInterrupted.
    """
    jobs = min(jobs, len(runs))
    num_threads = config.num_threads or max((os.cpu_count() or 1) // jobs, 1)
    overview, inbox = Overview(config), Inbox()
    told: set[str] = set()
    waiting, stopped = list(runs), interrupt.requested
    under_way: list[_Job] = []
    ended: list[_Job] = []
    try:
        while under_way or (waiting and not stopped):
            while waiting and len(under_way) < jobs and not stopped:
                under_way.append(_Job(out, waiting.pop(0), num_threads, inbox))
            job = _receive(inbox, overview, told)
            if job is not None:
                under_way.remove(job)
                ended.append(job)
            if interrupt.requested or (job is not None and job.failure is not None):
                stopped = True
                _stop(under_way)
    finally:
        _stop(under_way)
        overview.close()
    for job in ended:
        if job.failure is not None:
            raise RunError(job.failure)
    stops = [(job.folder, job.end["step"]) for job in ended if job.end and "step" in job.end]
    stops += [(run_folder(out, *run), 0) for run in waiting]
    if stops:
        raise RunInterrupted(*stops[0], config.distill.num_steps)


def _receive(inbox: Inbox, overview: Overview, told: set[str]) -> _Job | None:
    """Handle one message, if one comes in time; the job whose process has ended.

    told: warnings so far; what several runs warn of is said once.
    """
    try:
        job, message = inbox.get(timeout=POLL_SECONDS)
    except queue.Empty:
        return None
    if message is None:
        if job.end == {"event": "complete"}:
            overview.done(job.name)
        return job
    if message["event"] == "step":
        overview.step(job.name, message)
    elif message["event"] == "warning":
        if message["message"] not in told:
            told.add(message["message"])
            logger.warning("%s: %s", job.name, message["message"])
    else:
        job.end = message
    return None


def _stop(jobs: Sequence[_Job]) -> None:
    for job in jobs:
        job.stop()


def _environment(num_threads: int) -> dict[str, str]:
    """Ours, with the jobs' share of threads and this very package first on the path."""
    here = str(Path(disback_plugin.__file__).parent.parent)
    search = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    num = str(num_threads)
    return {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": num, "MKL_NUM_THREADS": num}
