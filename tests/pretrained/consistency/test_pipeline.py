"""Folders of diffusers' ConsistencyModelPipeline, both ways."""

import json
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from disback_plugin.diffusion import OneStepStudent, PreconditionedDenoiser
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.consistency import (
    load_pipeline,
    open_checkpoint,
    save_pipeline,
)
from tests.pretrained.consistency.checkpoints import CASES, inputs

FILES = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
}
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def denoiser(released: Path) -> PreconditionedDenoiser:
    return open_checkpoint(released / "cd_imagenet64_l2.pt", 16, 8)


@pytest.fixture
def folder(denoiser: PreconditionedDenoiser, tmp_path: Path) -> Path:
    save_pipeline(denoiser, tmp_path / "pipeline")
    return tmp_path / "pipeline"


@torch.no_grad()
def test_diffusers_samples_what_our_one_step_student_samples(
    folder: Path, denoiser: PreconditionedDenoiser
) -> None:
    assert {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()} == FILES
    pipeline = diffusers.ConsistencyModelPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    z, labels = torch.randn(2, 3, 8, 8), torch.tensor([3, 8])
    theirs = pipeline(batch_size=2, latents=z, class_labels=labels, output_type="pt").images
    ours = OneStepStudent(denoiser, 80.0)(z, labels).clamp(-1, 1) / 2 + 0.5
    assert (ours - theirs).abs().max() <= 1e-5
    assert theirs.std() > 0.05


@torch.no_grad()
def test_a_saved_pipeline_loads_as_the_same_denoiser(
    folder: Path, denoiser: PreconditionedDenoiser
) -> None:
    again = load_pipeline(folder)
    assert type(again) is type(denoiser)
    assert again.description is not None
    assert again.description == denoiser.description
    assert (again.sigma_min, again.sigma_max) == (0.002, 80.0)
    given = inputs(CASES["imagenet"])
    assert torch.equal(again(*given), denoiser(*given))


def test_a_pipeline_may_be_saved_over_the_folder_it_came_from(folder: Path) -> None:
    denoiser = load_pipeline(folder)
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    (folder / WEIGHTS).write_bytes(bytes((folder / WEIGHTS).stat().st_size // 2))
    save_pipeline(denoiser, folder, force=True)
    after = load_pipeline(folder).state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_scheduler_says_the_noise_levels(folder: Path) -> None:
    file = folder / "scheduler" / "scheduler_config.json"
    config = json.loads(file.read_text())
    assert config["num_train_timesteps"] == 40
    file.write_text(json.dumps({**config, "sigma_min": 0.01, "sigma_max": 20.0, "sigma_data": 1.5}))
    again = load_pipeline(folder)
    assert (again.sigma_min, again.sigma_max, again.sigma_data) == (0.01, 20.0, 1.5)


def test_a_file_is_no_folder_to_write(tmp_path: Path, denoiser: PreconditionedDenoiser) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="file is a file: choose a folder"):
        save_pipeline(denoiser, tmp_path / "file", force=True)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_files_are_kept_unless_forced(folder: Path, denoiser: PreconditionedDenoiser) -> None:
    with pytest.raises(ConfigError, match="pipeline exists and is not empty"):
        save_pipeline(denoiser, folder)
    save_pipeline(denoiser, folder, num_timesteps=201, force=True)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    assert config["num_train_timesteps"] == 201


def test_an_edm_teacher_is_no_consistency_pipeline(released: Path, tmp_path: Path) -> None:
    teacher = open_checkpoint(released / "edm_imagenet64_ema.pt", 16, 8)
    with pytest.raises(ConfigError, match="takes consistency models only; .* as cm:FILE"):
        save_pipeline(teacher, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_in.weight": None}, r"do not fit its UNet2DModel: missing_keys: \['conv_in.weight'"),
        ({"more": torch.ones(1)}, r"do not fit its UNet2DModel: unexpected_keys: \['more'\]"),
        ({"conv_in.bias": torch.ones(3)}, "conv_in.bias expected shape"),
    ],
)
def test_weights_load_strictly(
    folder: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    weights = {**load_file(folder / WEIGHTS), **change}
    changed = {name: value.clone() for name, value in weights.items() if value is not None}
    save_file(changed, folder / WEIGHTS)  # clones: what is loaded is still mapped from the file
    with pytest.raises(CheckpointError, match=message):
        load_pipeline(folder)


def test_pickled_and_damaged_weights_are_refused(folder: Path) -> None:
    weights = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"UNet2DModel in .* does not load"):
        load_pipeline(folder)
    (folder / WEIGHTS).unlink()
    torch.save(weights, folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no file named diffusion_pytorch_model.safetensors"):
        load_pipeline(folder)


@pytest.mark.parametrize(
    ("file", "setting", "message"),
    [
        ("unet/config.json", {"block_out_channels": 3}, "UNet2DModel in .* does not load"),
        (
            "scheduler/scheduler_config.json",
            {"sigma_min": "low"},
            "cannot be opened as a consistency model",
        ),
    ],
)
def test_settings_of_another_type_are_refused(
    folder: Path, file: str, setting: dict[str, object], message: str
) -> None:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **setting}))
    with pytest.raises(CheckpointError, match=message):
        load_pipeline(folder)


def test_another_pipeline_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    index = folder / "model_index.json"
    whole = json.loads(index.read_text())
    index.write_text(json.dumps({**whole, "_class_name": "DDPMPipeline"}))
    with pytest.raises(CheckpointError, match="holds a DDPMPipeline, not a ConsistencyModel"):
        load_pipeline(folder)
    index.write_text(json.dumps({**whole, "scheduler": ["diffusers", "DDIMScheduler"]}))
    with pytest.raises(CheckpointError, match=r"its scheduler is \['diffusers', 'DDIMScheduler'\]"):
        load_pipeline(folder)
    with pytest.raises(CheckpointError, match="no folder of a diffusers pipeline"):
        load_pipeline(tmp_path)
