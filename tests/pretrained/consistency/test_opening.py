"""One entry point for files, folders and repositories, and what it asks for."""

import json
import sys
from pathlib import Path

import pytest
import torch

from disback_plugin.cli.main import main
from disback_plugin.diffusion import ConsistencyDenoiser
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.smoke.openai import write
from disback_plugin.pretrained import load_denoiser
from disback_plugin.pretrained.consistency import OpenAIEDMDenoiser, open_checkpoint
from tests.pretrained.consistency.checkpoints import CASES


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cd_imagenet64_l2", ConsistencyDenoiser),
        ("ct_bedroom256", ConsistencyDenoiser),
        ("edm_imagenet64_ema", OpenAIEDMDenoiser),
    ],
)
def test_the_name_of_a_released_file_says_what_it_is(released: Path, name: str, kind: type) -> None:
    assert type(open_checkpoint(released / f"{name}.pt", 16)) is kind


def test_another_name_needs_the_parametrisation(released: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "weights.pt"
    renamed.symlink_to(released / "edm_imagenet64_ema.pt")
    with pytest.raises(ConfigError, match="does not say what the model is .*give parametrisation"):
        open_checkpoint(renamed, 16)
    assert type(open_checkpoint(renamed, 16, parametrisation="edm")) is OpenAIEDMDenoiser


def test_errors_name_the_file(released: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cd_imagenet64_l2.pt: tensor 'input_blocks.5.1.qkv"):
        open_checkpoint(released / "cd_imagenet64_l2.pt")
    for missing in (tmp_path / "cd_none.pt", "cd_none.pt", "runs/none.pt"):
        with pytest.raises(CheckpointError, match=r"none.pt does not exist"):
            open_checkpoint(missing)


def test_weights_do_not_change_with_the_file(tmp_path: Path) -> None:
    tensors = write(tmp_path / "cd_a.pt", CASES["lsun"])
    denoiser = open_checkpoint(tmp_path / "cd_a.pt", 16)
    with (tmp_path / "cd_a.pt").open("r+b") as stream:
        stream.write(bytes((tmp_path / "cd_a.pt").stat().st_size))
    weight = denoiser.state_dict()["network.unet.conv_in.weight"]
    assert torch.equal(weight, tensors["input_blocks.0.0.weight"])


def test_a_folder_takes_no_options_of_files(released: Path, tmp_path: Path) -> None:
    source = released / "cd_imagenet64_l2.pt"
    assert main(["convert", "cm", str(source), str(tmp_path), "--num-head-channels", "16"]) == 0
    assert type(open_checkpoint(str(tmp_path))) is ConsistencyDenoiser
    with pytest.raises(ConfigError, match="resolution is for OpenAI's .pt files"):
        open_checkpoint(tmp_path, resolution=8)


@pytest.mark.parametrize(
    ("name", "resolution", "num_timesteps"),
    [("cd_imagenet64_l2", 64, 40), ("ct_bedroom256", 256, 151), ("ct_bedroom256", 64, 201)],
)
def test_convert_writes_the_scale_of_the_released_multistep_sampling(
    released: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    resolution: int,
    num_timesteps: int,
) -> None:
    options = ["--num-head-channels", "16", "--resolution", str(resolution)]
    assert main(["convert", "cm", str(released / f"{name}.pt"), str(tmp_path), *options]) == 0
    assert f"parameters, 3x{resolution}x{resolution}, " in capsys.readouterr().out
    config = json.loads((tmp_path / "scheduler" / "scheduler_config.json").read_text())
    assert config["num_train_timesteps"] == num_timesteps
    again = ["convert", "cm", str(released / f"{name}.pt"), str(tmp_path), *options]
    assert main(again) == 2
    assert "exists and is not empty: choose another, or force (--force)" in capsys.readouterr().err
    assert main([*again, "--force"]) == 0


def test_convert_refuses_a_teacher(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = released / "edm_imagenet64_ema.pt"
    arguments = ["convert", "cm", str(source), str(tmp_path / "out"), "--num-head-channels", "16"]
    assert main(arguments) == 2
    assert "takes consistency models only" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_load_denoiser_describes_it(released: Path) -> None:
    denoiser = load_denoiser(f"cm:{released / 'ct_bedroom256.pt'}", num_head_channels=16)
    assert str(denoiser.description) == (
        "cm: UNet2DModel of 32-32-64 channels, 2 blocks a level, attention at 32 with heads of 16, "
        "shift conditioning, resnet resampling, 1.26 M parameters, 3x128x128, unconditional, "
        "consistency parametrisation, sigma 0.002 to 80"
    )
    with pytest.raises(ConfigError, match="format 'cm' has no option 'heads'; it has num_head"):
        load_denoiser(f"cm:{released / 'ct_bedroom256.pt'}", heads=16)


def test_without_diffusers_it_says_what_to_install(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ConfigError, match="need the package 'diffusers': pip install diffusers"):
        open_checkpoint(released / "cd_imagenet64_l2.pt", 16)
