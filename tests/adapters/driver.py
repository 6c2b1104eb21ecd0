"""Runs a host's jobs one after another, each in a fork of its own; the imports are shared.

    python -m tests.adapters.driver MODULE JOBS.json

MODULE has `prepare(job)`, called once: what every job would import or replace; and `run(job)`. No
library call is replaced but those that MODULE names: what does not start here does not start for
users. Every job has `notes`, a file name, and `port`, for its process group; one that is to be
killed has `kill`, the step.
"""

import importlib.util
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Job = dict[str, Any]


class Notebook:
    """What one rank of a job notes: a JSON line a step."""

    def __init__(self, job: Job) -> None:
        self.job, self.file = job, Path(f"{job['notes']}.{os.environ.get('RANK', '0')}")

    def write(self, line: dict[str, Any]) -> None:
        with self.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def die_at(self, step: int, key: str = "kill") -> None:
        """SIGKILL, where the job is to be killed at this step."""
        if step == self.job.get(key):
            os.kill(os.getpid(), signal.SIGKILL)


def preload(*names: str) -> None:
    """Import those that are installed, so that no fork has to."""
    for name in names:
        if importlib.util.find_spec(name.partition(".")[0]):
            importlib.import_module(name)


def in_a_fork(run: Callable[[Job], None], job: Job) -> None:
    """Run a job; ends this process too where it failed, unless it was to be killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ["MASTER_PORT"] = str(job["port"])
            run(job)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # where two are killed, the later one may first meet a closed connection
    if (code == 0) == any(name.startswith("kill") for name in job):
        sys.exit(f"{job['notes']} ended with {code}")


def main() -> None:
    module, file = importlib.import_module(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    jobs = json.loads(file.read_text())
    module.prepare(jobs[0])
    for job in jobs:
        in_a_fork(module.run, job)


if __name__ == "__main__":
    main()
