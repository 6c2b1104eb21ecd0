"""A small factory of run folders in the trainer's format, without training anything."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

SECONDS_PER_STEP = 0.5
PASSES_PER_STEP = 8


@dataclass
class FakeExperiment:
    """OUT: add runs by literal curves {step: value of the primary metric}."""

    out: Path
    primary: str = "fd_pixel"
    thresholds: Sequence[float] = (50.0, 10.0, 5.0)
    name: str = "toy"
    data_shape: tuple[int, ...] = (1, 8, 8)
    seconds_per_step: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        (self.out / "teacher").mkdir(parents=True)
        _write(self.out / "experiment.json", {"name": self.name, "versions": {"torch": "2.9"}})
        (self.out / "config.yaml").write_text("student:\n  learning_rate: 0.002  # <tuned>\n")
        _write(self.out / "teacher" / "reference.json", {self.primary: 2.0})
        save_file(
            {"samples": self._samples(rng), "data": self._samples(rng)},
            self.out / "teacher" / "samples.safetensors",
        )

    def add(
        self,
        arm: str,
        seed: int,
        curve: Mapping[int, float],
        *,
        complete: bool = True,
        others: Mapping[str, float] | None = None,
    ) -> Path:
        """Write one run; `others` are further metrics, constant over training."""
        folder = self.out / "runs" / f"{arm}-seed{seed}"
        (folder / "samples").mkdir(parents=True)
        fields = {"experiment": self.name, "arm": arm, "seed": seed, "num_steps": max(curve)}
        fields |= {"primary": self.primary, "thresholds": list(self.thresholds)}
        _write(folder / "run.json", fields | {"status": "complete" if complete else "running"})
        records = [
            self._record(arm, "eval", step, metrics={self.primary: value} | dict(others or {}))
            for step, value in curve.items()
        ]
        if arm in ("disback", "warm"):
            records += self._recording(folder, arm)
        if arm == "disback":
            records += [self._switch(arm, step, node) for step, node in ((20, 1), (30, 0))]
        lines = [json.dumps(record) for record in records]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        rng = np.random.default_rng(seed)
        for step in curve:
            samples = {"samples": self._samples(rng)}
            save_file(samples, folder / "samples" / f"step_{step:06d}.safetensors")
        return folder

    def _recording(self, folder: Path, arm: str) -> list[dict[str, object]]:
        (folder / "path").mkdir()
        nodes = [
            {"index": 1, "step": 10, "file": "node_001.safetensors", "bytes": 2048,
             "distance": 0.01, "bf16_distance": 0.009, "bf16_survives": True},
            {"index": 2, "step": 20, "file": "node_002.safetensors", "bytes": 3_145_728,
             "distance": 0.0213, "bf16_distance": 0.02, "bf16_survives": 0.5},
        ]  # fmt: skip
        manifest = {"format_version": 1, "complete": True, "nodes": nodes}
        _write(folder / "path" / "path.json", manifest)
        last = self._record(arm, "train", 20, stage="record", node=0, student_loss=None)
        return [last] + [
            self._record(arm, "node", node["step"], index=node["index"], distance=node["distance"])
            for node in nodes
        ]

    def _switch(self, arm: str, step: int, node: int) -> dict[str, object]:
        return self._record(
            arm, "switch", step, node=node, num_nodes=2, changed_tensors=3, num_tensors=4,
            distance=0.01,
        )  # fmt: skip

    def _record(self, arm: str, kind: str, step: int, **fields: object) -> dict[str, object]:
        seconds = step * self.seconds_per_step.get(arm, SECONDS_PER_STEP)
        base = {"kind": kind, "seconds": seconds, "passes": step * PASSES_PER_STEP}
        return base | fields | {"step": step}

    def _samples(self, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(-1, 1, (9, *self.data_shape)).astype(np.float32)


@pytest.fixture(scope="session")
def make_experiment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., FakeExperiment]:
    """FakeExperiment(**settings) in a fresh folder OUT at each call."""

    def make(**settings: object) -> FakeExperiment:
        return FakeExperiment(out=tmp_path_factory.mktemp("experiment") / "out", **settings)

    return make


def _write(file: Path, record: object) -> None:
    file.write_text(json.dumps(record))
