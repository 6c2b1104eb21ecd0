"""A switch under FSDP in gloo processes of one host: seconds, and bytes that each rank reads."""

import copy
import json
import os
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from benchmarks.sdxl_size import networks
from benchmarks.sdxl_size.process import bytes_read, kept_memory, peak, settle
from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from disback_plugin.path import DegradationPath

NUM_NODES = 4  # the last one is the fake score's start, the next opens the path


class _Guidance(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.fake_unet = networks.make(name, torch.device("cpu"))
        self.real_unet = copy.deepcopy(self.fake_unet)


class _Model(nn.Module):
    """What DMD2's trainer holds, as far as its adapter looks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.guidance_model: nn.Module = _Guidance(name)
        self.feedforward_model = nn.Linear(1, 1)


def measure_ranks(name: str, num_ranks: int, folder: Path) -> dict[str, object]:
    """Medians over the switches of the slowest rank; bytes of the rank that read most."""
    if not (folder / "path").exists():
        _write_path(name, folder)
    multiprocessing.start_processes(
        _run, (name, num_ranks, folder), num_ranks, start_method="spawn"
    )
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(num_ranks)]
    node = (folder / "path" / "node_0001.safetensors").stat().st_size
    return {
        "network": name,
        "ranks": num_ranks,
        "switch": max(median(one["switch"]) for one in seen),
        "read_share": max(max(one["read"]) for one in seen) / (node / num_ranks),
        "kept": max(one["kept"] for one in seen),
    }


def _write_path(name: str, folder: Path) -> None:
    network = networks.make(name, torch.device("cpu"))
    start = network.state_dict()
    path = DegradationPath.create(
        folder / "path", start, method="dmd2-sd", keep_teacher=True
    )  # as a session does
    for step in range(1, NUM_NODES + 1):
        networks.drift(network)
        path.append(network.state_dict(), step)
    path.finish()


def _run(rank: int, name: str, num_ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store-{num_ranks}",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(minutes=5),
    )
    model = _Model(name)
    num = sum(value.numel() for value in model.guidance_model.real_unet.state_dict().values())
    before = kept_memory()
    host = DMD2Host(model, remember_teacher(model))
    kept = kept_memory() - before
    policy = partial(size_based_auto_wrap_policy, min_num_params=num // 8)  # units, as DMD2's
    model.guidance_model = FullyShardedDataParallel(
        model.guidance_model, auto_wrap_policy=policy, device_id=torch.device("cpu")
    )
    sharded, schedule = kept_memory(), {"name": "fixed", "interval": 1}
    off = {"prefetch": False} if "prefetch" in DisBackConfig.model_fields else {}
    config = DisBackConfig(path=folder / "path", schedule=schedule, rounding="nearest", **off)
    disback = DisBack.attach(host, adapter="dmd2-sd", config=config)
    disback.begin_step(0)
    disback.end_step(0)
    settle()
    kept += kept_memory() - sharded  # less where the reference went into a mapped file
    seen: dict[str, list[float]] = {"switch": [], "read": []}
    for step in range(1, NUM_NODES - 1):
        settle()
        distributed.barrier()
        start = bytes_read()
        with peak(0.01) as memory:
            begin = time.perf_counter()
            disback.begin_step(step)
            seen["switch"].append(time.perf_counter() - begin)
        seen["read"].append(bytes_read() - start + memory.mapped)
        disback.end_step(step)
    figures = {**seen, "kept": kept / num, "pid": os.getpid()}
    (folder / f"{rank}.json").write_text(json.dumps(figures))
    distributed.destroy_process_group()
