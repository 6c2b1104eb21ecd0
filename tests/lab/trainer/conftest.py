"""A complete experiment in miniature: 2-D mixture, networks of a few hundred weights, 16 steps."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch import Tensor

from disback_plugin.lab.config.experiment import ExperimentConfig, parse_config
from disback_plugin.lab.trainer import run_experiment

TINY: dict[str, Any] = {
    "name": "tiny",
    "problem": {"kind": "gaussians", "num_components": 3, "std": 0.1},
    "teacher": {
        "denoiser": {"kind": "edm", "sigma_data": 0.6, "sigma_max": 20.0},
        "network": {"kind": "residual-mlp", "hidden": 8, "num_blocks": 1},
        "training": {"num_steps": 8, "batch_size": 16},
        "num_sampling_steps": 3,
    },
    "student": {
        "kind": "generator",
        "latent_dim": 2,
        "hidden": 8,
        "num_layers": 2,
        "offset": [2.0, -1.0],
    },
    "distill": {"num_steps": 16, "batch_size": 8, "student_lr": 1e-3, "fake_lr": 1e-3},
    "disback": {
        "record": {"num_steps": 6, "at": [1, 3, 6]},
        "schedule": {"name": "fixed", "interval": 3},
    },
    "evaluation": {"every": 8, "num_samples": 16, "num_saved": 4, "primary": "energy_distance"},
    "checkpoint": {"every": 4, "keep": 2},
    "logging": {"every": 2, "progress": False},
    "device": "cpu",
    "num_threads": 1,
}


def tiny_config(*overrides: str) -> ExperimentConfig:
    return parse_config(copy.deepcopy(TINY), "tiny", overrides)


@pytest.fixture(autouse=True, scope="session")
def no_fsync() -> Iterator[None]:
    """The tests kill processes, not the power: waiting for the disk is half of their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def config() -> ExperimentConfig:
    return tiny_config()


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps precision and device per process; let one test choose its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def accelerator() -> Accelerator:
    return Accelerator(cpu=True, mixed_precision="no")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment, run through without interruption: all arms, seed 0."""
    out = tmp_path_factory.mktemp("finished") / "out"
    run_experiment(tiny_config(), out)
    return out


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the cases of `checkpoint_cases` name; diffusers takes seconds to import."""
    from tests.lab.trainer.checkpoint_cases import write_files

    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "student.safetensors")


def lines(file: Path, *kinds: str) -> list[dict[str, Any]]:
    """The lines of a metrics file, of the given kinds only where some are given."""
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in found if not kinds or line["kind"] in kinds]


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def whole_and_resumed(config: ExperimentConfig, folder: Path) -> tuple[Path, Path]:
    """The run of arm `disback` in one go, and the same gone on from its checkpoint of step 8."""
    whole, resumed = folder / "whole", folder / "resumed"
    run_experiment(config, whole, ["disback"])
    shutil.copytree(whole, resumed)
    run = resumed / "runs" / "disback-seed0"
    (run / "run.json").unlink()
    for step in (12, 16):
        shutil.rmtree(run / "checkpoints" / f"step_0000{step}")
    run_experiment(config, resumed, ["disback"], resume=True)
    return whole / "runs" / "disback-seed0", run


def resumed(config: ExperimentConfig, done: Path, out: Path) -> Path:
    """The run of a copy of `done`, gone on from its checkpoint in the middle of the walk."""
    shutil.copytree(done, out)
    run = out / "runs" / "disback-seed0"
    (run / "run.json").unlink()
    shutil.rmtree(run / "checkpoints" / "step_000007")
    run_experiment(config, out, ["disback"], resume=True)
    return run
