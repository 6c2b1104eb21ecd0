"""Runs FastGen's own `train.py`, or the small host's, one run after another.

    python -m tests.hosts.fastgen_driver JOBS.json

Replaced in FastGen: its nap of 10 s at the end, and with several processes what insists on CUDA. A
job is a dict, see `run`.
"""

import argparse
import contextlib
import json
import os
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed


def without_cuda() -> None:
    """FastGen's DDP on the CPU, in one process group for all runs."""
    import fastgen.trainer
    import fastgen.utils.distributed
    from fastgen.utils.distributed import ddp

    def model_to_ddp(model: Any) -> Any:
        return ddp.DDPWrapper(model, find_unused_parameters=model.config.ddp_find_unused_parameters)

    ddp.init, ddp.model_to_ddp = (lambda: None), model_to_ddp
    fastgen.utils.distributed.clean_up = lambda: None
    barrier = distributed.barrier
    distributed.barrier = lambda *args, **kwargs: barrier()  # of no device
    fastgen.trainer.time = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})


def run(job: dict[str, Any]) -> None:
    """One training run. A job: checkout, is_real, config, method, root, opts (its overrides)."""
    from tests.hosts.fastgen_probe import StoppedError

    torch.manual_seed(3)  # FastGen builds its model before it seeds
    os.environ |= {"FASTGEN_OUTPUT_ROOT": job["root"], "FASTGEN_METHOD": job["method"]}
    script = str(Path(job["checkout"]) / "train.py")
    sys.argv = [script, "--config", job["config"], "--log_level", "WARNING", "-", *job["opts"]]
    with contextlib.suppress(StoppedError):
        runpy.run_path(script, run_name="__main__")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=Path)
    torch.set_num_threads(1)
    jobs = json.loads(parser.parse_args().jobs.read_text())
    sys.path.append(jobs[0]["checkout"])  # last: it has a package `tests` too
    if jobs[0]["is_real"]:
        without_cuda()
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    for job in jobs:
        run(job)


if __name__ == "__main__":
    main()
