"""One network in one process: recording and walking a path, beside what is naive and the floor."""

import copy
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.sdxl_size import networks
from benchmarks.sdxl_size.process import cache, kept_memory, peak, settle
from disback_plugin import DisBack, DisBackConfig
from disback_plugin.path import DegradationPath
from disback_plugin.path.manifest import FILE_NAME

Figures = dict[str, Any]
CAN_PREFETCH = "prefetch" in DisBackConfig.model_fields


class Case:
    """A network in a teacher's dtype, its path in `folder`; the fake score is in float32."""

    def __init__(
        self, name: str, dtype: torch.dtype, device: torch.device, repeats: int, folder: Path
    ) -> None:
        self.name, self.dtype, self.device = name, dtype, device
        self.repeats, self.folder = repeats, folder
        self.num_nodes = repeats + 3  # one more to look at memory, one is the fake score's start
        self.fake_score = networks.make(name, device)
        self.teacher = copy.deepcopy(self.fake_score).to(dtype)
        self.student = nn.Linear(1, 1).to(device)
        self.num = sum(value.numel() for value in self.teacher.state_dict().values())

    def measure(self) -> Figures:
        """Everything that one process can tell."""
        found: Figures = {"network": self.name, "teacher": str(self.dtype).removeprefix("torch.")}
        found |= {"parameters": self.num, "device": self.device.type, "repeats": self.repeats}
        found |= self.record() | self.walk(prefetch=False)
        cold = self.walk(prefetch=False, cold=True)
        found |= {f"cold_{key}": cold[key] for key in ("switch", "naive")}
        if CAN_PREFETCH:
            found |= {f"prefetched_{key}": value for key, value in self.walk(True).items()}
        return found

    def session(self, prefetch: bool, record: bool) -> DisBack:
        """Of the generic adapter; a switch a step."""
        start = networks.make(self.name, self.device).state_dict()
        self.fake_score.load_state_dict(start)
        self.teacher.load_state_dict(start)
        steps = {"num_steps": self.num_nodes, "every": 1} if record else None
        more = {"prefetch": prefetch} if CAN_PREFETCH else {}
        config = DisBackConfig(
            path=self.folder / "path",
            record=steps,
            schedule={"name": "fixed", "interval": 1},
            rounding="nearest",
            **more,
        )
        roles = {"teacher": self.teacher, "fake_score": self.fake_score, "student": self.student}
        return DisBack.attach(roles=roles, config=config)

    # -- recording ------------------------------------------------------------------------------
    def record(self) -> Figures:
        """A node a step: the step's stall, all of it until the node is listed; extra memory."""
        disback = self.session(False, record=True)
        found: dict[str, list[float]] = {key: [] for key in ("stall", "record", "snapshot", "save")}
        for step in range(self.num_nodes):
            disback.begin_step(step)
            networks.drift(self.fake_score)
            if step == 0:
                with peak() as seen:
                    self._record_one(disback, step)
                extra = seen.own / self.num
            elif step <= self.repeats:
                found["snapshot"].append(self._timed(self._snapshot))
                found["save"].append(self._timed(self._save))
                stall, total = self._record_one(disback, step)
                found["stall"].append(stall)
                found["record"].append(total)
            else:
                self._record_one(disback, step)
        disback.close()
        size = sum(file.stat().st_size for file in (self.folder / "path").glob("node_0001.*"))
        return {**medians(found), "extra_at_record": extra, "node_bytes": size}

    def _record_one(self, disback: DisBack, step: int) -> tuple[float, float]:
        """Seconds of `end_step`, and until the node is listed on disk."""
        manifest = self.folder / "path" / FILE_NAME
        before = manifest.stat().st_mtime_ns
        self._wait()
        begin = time.perf_counter()
        disback.end_step(step)
        self._wait()
        stall = time.perf_counter() - begin
        while manifest.stat().st_mtime_ns == before:
            time.sleep(0.001)
        total = time.perf_counter() - begin
        settle()
        return stall, total

    def _snapshot(self) -> object:
        return [value.to("cpu", copy=True) for value in self.fake_score.state_dict().values()]

    def _save(self) -> None:
        file = self.folder / "naive.safetensors"
        save_file({k: v.contiguous() for k, v in self.fake_score.state_dict().items()}, file)
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
        file.unlink()

    # -- walking --------------------------------------------------------------------------------
    def walk(self, prefetch: bool, cold: bool = False) -> Figures:
        """Switches beside `torch.load` + `load_state_dict` and `copy_`; memory kept and extra.

        Both read files that lie in the system's cache, or on the disk alone (cold): a path may be
        larger than the memory, and what `torch.load` reads again and again is not.
        """
        naive, file = copy.deepcopy(self.teacher), self.folder / "naive.pt"
        torch.save(naive.state_dict(), file)
        ready = {name: value.clone() for name, value in naive.state_dict().items()}
        before = kept_memory()
        disback = self.session(prefetch, record=False)
        disback.begin_step(0)
        disback.end_step(0)
        settle()
        kept = kept_memory() - before
        found: dict[str, list[float]] = {key: [] for key in ("switch", "naive", "copy")}
        for step in range(1, self.repeats + 1):
            node = self.folder / "path" / f"node_{self.num_nodes - 1 - step:04d}.safetensors"
            for due in (file, node):
                cache(due, drop=cold)
            found["naive"].append(self._timed(lambda: self._naive(naive, file)))
            found["copy"].append(self._timed(lambda: self._copy(naive, ready)))
            settle()
            found["switch"].append(self._timed(lambda step=step: disback.begin_step(step)))
            disback.end_step(step)
        settle()
        with peak() as seen:
            extra_device = self._extra_on_device(lambda: disback.begin_step(self.repeats + 1))
        disback.end_step(self.repeats + 1)
        figures = medians(found) | {"kept": kept / self.num, "extra_at_switch": seen.own / self.num}
        figures |= {"extra_on_device": extra_device, "nothing_due": self._nothing_due(disback)}
        disback.close()
        return figures

    def _naive(self, network: nn.Module, file: Path) -> None:
        network.load_state_dict(torch.load(file, map_location=self.device, weights_only=True))

    @staticmethod
    def _copy(network: nn.Module, ready: dict[str, Tensor]) -> None:
        for name, value in network.state_dict().items():
            value.copy_(ready[name])

    def _nothing_due(self, disback: DisBack, num: int = 2000) -> float:
        """Median seconds of begin_step and end_step, the teacher answering from here on."""
        disback.begin_step(self.num_nodes - 1)
        disback.end_step(self.num_nodes - 1)
        seconds, end = [], self.num_nodes + self.repeats * num
        for first in range(self.num_nodes, end, num):
            begin = time.perf_counter()
            for step in range(first, first + num):
                disback.begin_step(step)
                disback.end_step(step)
            seconds.append((time.perf_counter() - begin) / num)
        return median(seconds)

    def _extra_on_device(self, work: Callable[[], object]) -> int:
        """Bytes of the accelerator's memory that `work` takes for a while."""
        if self.device.type != "cuda":
            work()
            return 0
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        self._wait()
        return torch.cuda.max_memory_allocated() - before

    # -- time -----------------------------------------------------------------------------------
    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _timed(self, work: Callable[[], object]) -> float:
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin


def measure_codecs(
    name: str, device: torch.device, repeats: int, folder: Path, num_steps: int = 10
) -> list[Figures]:
    """What each codec makes of a node after `num_steps` Adam steps: bytes, error, seconds."""
    network = networks.make(name, device)
    teacher = {k: v.cpu().clone() for k, v in network.state_dict().items()}
    networks.train(network, name, num_steps, device)
    node = {k: v.cpu() for k, v in network.state_dict().items()}
    num, rows = sum(value.numel() for value in node.values()), []
    change = _distance(node, teacher)
    for codec in ("full", "delta", "bounded"):
        path = DegradationPath.create(folder / codec, teacher, codec=codec)
        found: dict[str, list[float]] = {"write": [], "read": []}
        for _ in range(repeats):
            path.truncate(0)
            begin = time.perf_counter()
            size = path.append(node, step=1).bytes
            found["write"].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            decoded = path.read(1)
            found["read"].append(time.perf_counter() - begin)
        row = {"network": name, "parameters": num, "codec": codec, "share": size / (2 * num)}
        rows.append({**row, "error": _distance(decoded, node) / change, **medians(found)})
        shutil.rmtree(folder / codec)
    return rows


def _distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return sum(float((one[k] - other[k]).double().square().sum()) for k in one) ** 0.5


def medians(found: dict[str, list[float]]) -> dict[str, float]:
    """Of the repeats of each, which took turns."""
    return {key: median(values) for key, values in found.items()}
