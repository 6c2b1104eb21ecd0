"""Runs a host's jobs one after another, each in a fork of its own; the imports are shared.

    python -m tests.adapters.driver

Serves launches, a JSON line each on stdin, and answers by the exit codes of their processes.
A driver is a module with `prepare(job)`, called once a process: what every job would import or
replace; and `run(job)`. No library call is replaced but those that it names: what does not start
here does not start for users. Every job has `notes`, a file name, and `port`, for its process
group; one that is to be killed has `kill`, the step.
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
SECONDS = 600  # a process may take
PRELOADED = (  # what several hosts import
    "accelerate",
    "datasets",  # accelerate's data loaders ask for its class where there are several processes
    "diffusers.loaders.peft",
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.pipelines.stable_diffusion",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "scipy.linalg",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
    "wandb",
)


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


def forked(run: Callable[[], None]) -> int:
    """The number of a fork that runs this and ends, with 1 where it failed."""
    if child := os.fork():
        return child
    code = 1
    try:
        run()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_a_fork(run: Callable[[Job], None], job: Job) -> None:
    """Run a job; ends this process too where it failed, unless it was to be killed."""

    def own() -> None:
        os.environ["MASTER_PORT"] = str(job["port"])
        run(job)

    child = forked(own)

    def out_of_time(*_: object) -> None:
        os.kill(child, signal.SIGKILL)
        sys.exit(f"{job['notes']} did not end in time")

    signal.signal(signal.SIGALRM, out_of_time)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # where two are killed, the later one may first meet a closed connection
    if (code == 0) == any(name.startswith("kill") for name in job):
        sys.exit(f"{job['notes']} ended with {code}")


def work(driver: str, file: Path) -> None:
    """All jobs of a launch, in a process of it."""
    module = importlib.import_module(driver)
    torch.set_num_threads(1)
    jobs = json.loads(file.read_text())
    module.prepare(jobs[0])
    for job in jobs:
        in_a_fork(module.run, job)


def started(order: dict[str, Any], env: dict[str, str], log: str) -> int:
    """A process of a launch; its number."""

    def own() -> None:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for old, new in ((os.open(os.devnull, os.O_RDONLY), 0), (stream, 1), (stream, 2)):
            os.dup2(old, new)
        os.environ.clear()
        os.environ.update(env)
        signal.alarm(SECONDS)
        work(order["driver"], Path(order["file"]))

    return forked(own)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    preload(*PRELOADED)
    for line in sys.stdin:
        order = json.loads(line)
        running = [started(order, **process) for process in order["processes"]]
        codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in running]
        print(json.dumps(codes), file=answers, flush=True)


if __name__ == "__main__":
    main()
