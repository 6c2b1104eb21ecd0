"""Stand-ins are read by the readers of the real formats, and have the layout that names tell."""

import re
from pathlib import Path

import pytest

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import ImageLMDB, LatentLMDB, load_prompts
from disback_plugin.lab.smoke import standins
from disback_plugin.lab.smoke.standins import stand_in
from disback_plugin.pretrained import describe, load_denoiser


@pytest.mark.parametrize(
    ("spec", "architecture", "num_classes", "condition"),
    [
        ("edm-pkl:w/edm-ffhq-64x64-uncond-vp.pkl", "DDPM++", 0, "none"),
        ("edm-pkl:edm-cifar10-32x32-cond-ve.pkl", "NCSN++", 10, "class"),
        ("edm-pkl:edm-imagenet-64x64-cond-adm.pkl", "ADM", 10, "class"),
        ("cm:w/cd_imagenet64_lpips.pt", "scale-shift", 10, "class"),
        ("cm:w/cd_ffhq64_lpips.pt", "scale-shift", 0, "none"),
        ("cm:cd_bedroom256_l2.pt", " shift conditioning", 0, "none"),
        ("diffusers:google/ddpm-cifar10-32", "UNet2DModel", 0, "none"),
        ("diffusers:stabilityai/stable-diffusion-xl-base-1.0", "UNet2DCondition", 0, "text"),
    ],
)
def test_a_stand_in_is_of_the_layout_that_is_named(
    spec: str, architecture: str, num_classes: int, condition: str, tmp_path: Path
) -> None:
    made, options = stand_in(spec, {"variant": "fp16"}, tmp_path)
    assert made.startswith(f"{spec.partition(':')[0]}:{tmp_path}")
    assert Path(made).name == re.split("[:/]", spec)[-1]
    found = describe(load_denoiser(made, **options))
    assert architecture in found.architecture
    assert (found.num_classes, found.condition) == (num_classes, condition)
    assert found.data_shape[1:] == (8, 8)


def test_a_lora_is_made_for_the_stand_in(tmp_path: Path) -> None:
    spec, given = "diffusers:sd/stable-diffusion-v1-5", {"lora": "hub/lora", "lcm": True}
    made, options = stand_in(spec, given, tmp_path)
    assert (tmp_path / "lora.safetensors").is_file()
    with_lora, plain = load_denoiser(made, **options), load_denoiser(made)
    assert describe(with_lora).parametrisation == "lcm"
    pairs = zip(with_lora.parameters(), plain.parameters(), strict=True)
    assert any(not bool((one == other).all()) for one, other in pairs)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("edm-pkl:network-snapshot-000500.pkl", "by its published name"),
        ("run:runs/other", "no stand-in for run:runs/other: it knows edm-pkl, cm, diffusers"),
    ],
)
def test_a_layout_that_is_not_told_is_refused(spec: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        stand_in(spec, {}, tmp_path)


def test_data_are_there(tmp_path: Path) -> None:
    assert ImageLMDB(standins.write_images(tmp_path)).num_classes == 10
    latents = LatentLMDB(standins.write_latents(tmp_path))
    prompts = list(load_prompts(standins.write_prompts(tmp_path)))
    assert latents.prompts(range(len(latents))) == prompts == list(standins.PROMPTS)
