"""Runs FastGen's own `train.py`, or the small host's.

Replaced in FastGen: its nap of 10 s at the end, and with several processes what insists on CUDA.
"""

import os
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import distributed

from tests.adapters.driver import Job, preload


def without_cuda() -> None:
    """FastGen's DDP and FSDP2 on the CPU, in the process group that `run` makes."""
    import fastgen.trainer
    import fastgen.utils.distributed
    from fastgen.utils.distributed import ddp, fsdp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import OffloadPolicy

    def model_to_ddp(model: Any) -> Any:
        return ddp.DDPWrapper(model, find_unused_parameters=model.config.ddp_find_unused_parameters)

    ddp.init, ddp.model_to_ddp = (lambda: None), model_to_ddp

    def mesh_of_cpus(*of_cuda: Any) -> Any:  # without CUDA it takes the world to be one process
        return init_device_mesh("cpu", (distributed.get_world_size(),))

    fsdp.init_device_mesh = mesh_of_cpus
    fsdp.CPUOffloadPolicy = OffloadPolicy  # they are on the CPU already
    fastgen.utils.distributed.clean_up = lambda: None
    barrier = distributed.barrier
    distributed.barrier = lambda *args, **kwargs: barrier()  # of no device
    fastgen.trainer.time = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})


def prepare(job: Job) -> None:
    """What all jobs import."""
    sys.path.append(job["checkout"])  # last: it has a package `tests` too
    preload("fastgen.trainer", "tests.adapters.fastgen.probe")
    if job["is_real"]:
        without_cuda()


def run(job: Job) -> None:
    """One training run. A job: checkout, is_real, config, method, root, opts (its overrides)."""
    if "WORLD_SIZE" in os.environ:
        distributed.init_process_group("gloo")
    torch.manual_seed(3)  # FastGen builds its model before it seeds
    os.environ |= {"FASTGEN_OUTPUT_ROOT": job["root"], "FASTGEN_METHOD": job["method"]}
    script = str(Path(job["checkout"]) / "train.py")
    sys.argv = [script, "--config", job["config"], "--log_level", "WARNING", "-", *job["opts"]]
    runpy.run_path(script, run_name="__main__")
