"""A switch under FSDP in gloo processes of one host: seconds, and bytes that each rank reads."""

import copy
import json
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import distributed, multiprocessing, nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy

from benchmarks.sdxl_size import networks
from benchmarks.sdxl_size.process import (
    bytes_read,
    give_back_at_once,
    kept_memory,
    peak,
    settle,
)
from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from disback_plugin.path import DegradationPath

KINDS = ("FSDP1", "FSDP2")
NUM_NODES = 7  # five switches: the last node is the fake score's start, the next opens the path
_CPU = torch.device("cpu")
_PAGE = 4096


class _Guidance(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.fake_unet = networks.make(name, _CPU)
        self.real_unet = copy.deepcopy(self.fake_unet)


class _Model(nn.Module):
    """What DMD2's trainer holds, as far as its adapter looks."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.guidance_model: nn.Module = _Guidance(name)
        self.feedforward_model = nn.Linear(1, 1)


def measure_ranks(kind: str, name: str, num_ranks: int, folder: Path) -> dict[str, object]:
    """Medians over the switches of the slowest rank; bytes of the rank that read most."""
    if not (folder / "path").exists():
        _write_path(name, folder)
    multiprocessing.start_processes(
        _run, (kind, name, num_ranks, folder), num_ranks, start_method="spawn"
    )
    seen = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(num_ranks)]
    node = (folder / "path" / "node_0001.safetensors").stat().st_size
    return {
        "network": name,
        "sharding": kind,
        "ranks": num_ranks,
        "switch": max(median(one["switch"]) for one in seen),
        "read_share": max(median(one["read"]) for one in seen) / (node / num_ranks),
        "kept": max(one["kept"] for one in seen),
    }


def _write_path(name: str, folder: Path) -> None:
    network = networks.make(name, _CPU)
    start = network.state_dict()
    path = DegradationPath.create(
        folder / "path", start, method="dmd2-sd", keep_teacher=True
    )  # as a session does
    for step in range(1, NUM_NODES + 1):
        networks.drift(network)
        path.append(network.state_dict(), step)
    path.finish()
    for file in (folder / "path").glob("*.safetensors"):
        _rewrite_by_pages(file)


def _rewrite_by_pages(file: Path) -> None:
    """So that what is mapped is what was looked at, to 64 KiB.

    The cache keeps a file in the pieces it was written in, and one look maps a whole piece.
    """
    data = memoryview(file.read_bytes())
    with file.open("wb", buffering=0) as stream:
        for begin in range(0, len(data), _PAGE):
            stream.write(data[begin : begin + _PAGE])


def _run(rank: int, kind: str, name: str, num_ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    give_back_at_once()
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store-{kind}-{num_ranks}",
        rank=rank,
        world_size=num_ranks,
        timeout=timedelta(minutes=5),
    )
    schedule = {"name": "fixed", "interval": 1}
    config = DisBackConfig(
        path=folder / "path", schedule=schedule, rounding="nearest", prefetch=False
    )
    begin = {"FSDP1": _begin_fsdp1, "FSDP2": _begin_fsdp2}[kind]
    disback, kept = begin(name, config)
    seen: dict[str, Any] = {"kept": kept, "switch": [], "read": []}
    for step in range(1, NUM_NODES - 1):
        settle()
        distributed.barrier()
        start = bytes_read()
        with peak(0.01) as memory:
            now = time.perf_counter()
            disback.begin_step(step)
            seen["switch"].append(time.perf_counter() - now)
        seen["read"].append(bytes_read() - start + memory.mapped)
        disback.end_step(step)
    (folder / f"{rank}.json").write_text(json.dumps(seen))
    distributed.destroy_process_group()


def _begin_fsdp1(name: str, config: DisBackConfig) -> tuple[DisBack, float]:
    """DMD2's model in units as its script makes them; bytes a parameter that DisBack keeps."""
    model = _Model(name)
    num = _num_parameters(model.guidance_model.real_unet)
    before = kept_memory()
    host = DMD2Host(model, remember_teacher(model))
    kept = kept_memory() - before
    policy = partial(size_based_auto_wrap_policy, min_num_params=num // 8)
    model.guidance_model = FullyShardedDataParallel(
        model.guidance_model, auto_wrap_policy=policy, device_id=_CPU
    )
    sharded = kept_memory()
    disback = DisBack.attach(host, adapter="dmd2-sd", config=config)
    _first_step(disback)
    return disback, (kept + kept_memory() - sharded) / num  # less where a file is mapped instead


def _begin_fsdp2(name: str, config: DisBackConfig) -> tuple[DisBack, float]:
    """Every large layer is a unit, the rest is one."""
    model = _Guidance(name)
    num, student = _num_parameters(model.real_unet), nn.Linear(1, 1)
    for network in (model.fake_unet, model.real_unet):
        for layer in network.modules():
            if not [*layer.children()] and _num_parameters(layer) > num // 16:
                fully_shard(layer)
        fully_shard(network)
    before = kept_memory()
    roles = {"teacher": model.real_unet, "fake_score": model.fake_unet, "student": student}
    disback = DisBack.attach(roles=roles, config=config)
    _first_step(disback)
    return disback, (kept_memory() - before) / num


def _first_step(disback: DisBack) -> None:
    disback.begin_step(0)
    disback.end_step(0)
    settle()


def _num_parameters(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters())
