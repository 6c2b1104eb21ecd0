"""Runs on an image problem: where the data are and how they lie in memory is no other training."""

import shutil
from pathlib import Path

import pytest
import torch

from disback_plugin.lab.trainer import run_experiment
from disback_plugin.lab.trainer.run_folder import read_config
from tests.lab.trainer.conftest import same_bits, tensors, tiny_config


def run(lmdb: Path, out: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights of the student of the arm `fixed`."""
    config = tiny_config(
        f"problem={{kind: images, lmdb: {lmdb}, conditional: true}}",
        "teacher.network={kind: song-unet, channels: 8, multipliers: [1], num_blocks: 1}",
        "student={kind: denoiser, sigma: 20}",
        *("evaluation.primary=fd_pixel", "distill.num_steps=8", *overrides),
    )
    run_experiment(config, out, ["fixed"])
    return tensors(out / "runs" / "fixed-seed0")


def test_in_memory_trains_the_same_student(lmdb: Path, tmp_path: Path) -> None:
    disk = run(lmdb, tmp_path / "disk")
    assert same_bits(run(lmdb, tmp_path / "held", "problem.in_memory=true"), disk)
    flipped = run(lmdb, tmp_path / "flipped", "teacher.training.x_flip=true")
    assert not same_bits(flipped, disk)


@pytest.mark.thorough
def test_channels_last_trains_and_resumes_exactly(lmdb: Path, tmp_path: Path) -> None:
    plain, out = run(lmdb, tmp_path / "plain"), tmp_path / "fast"
    fast = run(lmdb, out, "channels_last=true")
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value, rtol=1e-2, atol=1e-3, msg=name)
    folder = out / "runs" / "fixed-seed0"
    (folder / "run.json").unlink()
    shutil.rmtree(folder / "checkpoints" / "step_000008")
    run_experiment(read_config(out), out, ["fixed"], resume=True)
    assert same_bits(tensors(folder), fast)
