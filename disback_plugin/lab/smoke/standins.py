"""Tiny random weights, prompts and data in the real formats, for the files that a config names."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import write_image_lmdb, write_latent_lmdb
from disback_plugin.lab.noise import seeded
from disback_plugin.lab.smoke import openai, pickles
from disback_plugin.pretrained.edm import build_edm

SIZE, NUM_CLASSES, NUM_IMAGES = 8, 10, 60
PROMPTS = ("a cat", "two dogs", "a row of houses", "a red kite above a lake")
EDM_NAME = re.compile(r"edm-.*-(?P<labels>cond|uncond)-(?P<kind>vp|ve|adm)")
_EDM: dict[str, dict[str, Any]] = {
    "vp": {
        "model_type": "SongUNet",
        "model_channels": 8,
        "channel_mult": [1, 2],
        "augment_dim": 9,
    },
    "ve": {
        "model_type": "SongUNet",
        "model_channels": 8,
        "channel_mult": [1, 2],
        "channel_mult_noise": 2,
        "embedding_type": "fourier",
        "encoder_type": "residual",
        "resample_filter": [1, 3, 3, 1],
        "augment_dim": 9,
    },
    "adm": {"model_type": "DhariwalUNet", "model_channels": 32, "channel_mult": [1, 2]},
}
# of OpenAI's two layouts, that of ImageNet-64 and that of the LSUN sets
_LSUN = openai.Config(channels=32, mult=(1, 1, 2), attention=(4,), scale_shift=False)
OPENAI_OPTIONS = {"resolution": SIZE, "num_head_channels": 16}


def stand_in(spec: str, options: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, Any]]:
    """(spec, options) of a tiny checkpoint in `folder`, of the format that `spec` names.

    Its layout goes by the published file's name. ConfigError where that tells nothing.
    """
    kind, _, location = spec.partition(":")
    if kind not in _MAKERS:
        raise ConfigError(f"--smoke has no stand-in for {spec}: it knows {', '.join(_MAKERS)}")
    folder.mkdir(parents=True, exist_ok=True)
    made, own = _MAKERS[kind](Path(location), folder)
    # a variant or revision is of the release
    kept = {name: value for name, value in options.items() if name not in ("variant", "revision")}
    if kept.get("lora") is not None:
        kept["lora"] = str(_lora(made))
    return f"{kind}:{made}", {**kept, **own}


def _edm(location: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    named = EDM_NAME.fullmatch(location.stem)
    if named is None:
        raise ConfigError(
            f"--smoke tells the layout of an EDM file by its published name, as "
            f"edm-ffhq-64x64-uncond-vp.pkl; {location.name} is none"
        )
    settings = {
        "img_resolution": SIZE,
        "img_channels": 3,
        "label_dim": NUM_CLASSES if named["labels"] == "cond" else 0,
        "num_blocks": 1,
        "attn_resolutions": [SIZE // 2],
        **_EDM[named["kind"]],
    }
    with seeded(0):
        tensors = build_edm("EDMPrecond", settings).state_dict()
        for name, value in tensors.items():
            if not name.endswith("resample_filter"):  # no part of a residual block is zero
                tensors[name] = value + 0.05 * torch.randn_like(value)
    file = folder / location.name
    network = pickles.network("EDMPrecond", settings, dict(tensors))
    file.write_bytes(pickles.edm_file(network))
    return file, {}


def _openai(location: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    layout = _LSUN
    if not re.search("bedroom|cat|lsun", location.name):
        classes = NUM_CLASSES if "imagenet" in location.name else None
        layout = openai.Config(channels=32, mult=(1, 2), num_classes=classes)
    openai.write(folder / location.name, layout)
    return folder / location.name, dict(OPENAI_OPTIONS)


def _diffusers(location: Path, folder: Path) -> tuple[Path, dict[str, Any]]:
    from disback_plugin.lab.smoke import pipelines  # which takes seconds

    name = location.name
    with seeded(0):
        if "ddpm" in name:
            pipelines.save_ddpm(folder / name)
        elif "xl" in name:
            pipelines.save_sdxl(folder / name)
        else:
            pipelines.save_sd(folder / name)
    return folder / name, {}


_MAKERS = {"edm-pkl": _edm, "cm": _openai, "diffusers": _diffusers}


def _lora(pipeline: Path) -> Path:
    """A LoRA for the U-Net of a pipeline, beside it, in the format of LCM-LoRA."""
    from disback_plugin.lab.smoke import pipelines

    unet = pipelines.diffusers.UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet")
    with seeded(0):
        return pipelines.save_lora(pipeline.parent, unet)[0]


def write_prompts(folder: Path) -> Path:
    """A text file of a few prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    return folder / "prompts.txt"


def write_images(folder: Path) -> Path:
    """An LMDB of images in classes, each of its own grey."""
    rng, labels = np.random.default_rng(0), np.arange(NUM_IMAGES) % NUM_CLASSES
    noise = rng.integers(0, 40, (NUM_IMAGES, 3, SIZE, SIZE))
    images = (noise + 20 * labels[:, None, None, None]).astype(np.uint8)
    write_image_lmdb(folder / "images", zip(images, labels.tolist(), strict=True))
    return folder / "images"


def write_latents(folder: Path) -> Path:
    """An LMDB of latents with their prompts."""
    latents = np.random.default_rng(0).standard_normal((len(PROMPTS), 4, SIZE, SIZE))
    write_latent_lmdb(folder / "latents", zip(latents.astype(np.float32), PROMPTS, strict=True))
    return folder / "latents"
