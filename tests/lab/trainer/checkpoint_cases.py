"""Tiny experiments whose teacher is a checkpoint, one of every format."""

import copy
import json
from pathlib import Path
from typing import Any

import torch

from disback_plugin.lab.config.experiment import ExperimentConfig, parse_config
from disback_plugin.lab.data import write_image_lmdb, write_latent_lmdb
from disback_plugin.lab.smoke.pipelines import save_ddpm, save_lora, save_sd, save_sdxl, text_unet
from tests.pretrained.files import OPENAI_OPTIONS, write_edm_pickle, write_openai

STEPS: dict[str, Any] = {
    "name": "checkpoint",
    "method": "dmd",
    "distill": {"num_steps": 7, "batch_size": 2},
    "disback": {
        "record": {"num_steps": 3, "every": 1},
        "schedule": {"name": "fixed", "interval": 1},
    },
    "evaluation": {"every": 7, "num_samples": 4, "num_saved": 4},
    "checkpoint": {"every": 4, "keep": 9},
    "logging": {"every": 1, "progress": False},
    "device": "cpu",
    "num_threads": 1,
}
PROMPTS = ["a cat", "two dogs", "a row of houses"]
IMAGES = {"kind": "images", "lmdb": "{}/lmdb"}
TEXT = {"kind": "prompts", "file": "{}/prompts.txt"}
LATENTS = {"kind": "latents", "lmdb": "{}/latents"}
ALONE = {"kind": "teacher"}
OPENAI = {"checkpoint": "cm:{}/cd_tiny.pt", "options": OPENAI_OPTIONS}
OPENAI_EDM = {**OPENAI, "checkpoint": "cm:{}/edm_tiny_ema.pt"}
GUIDED = {"checkpoint": "diffusers:{}/sd", "options": {"guidance_scale": 3.0}}
LCM = {
    "checkpoint": "diffusers:{}/sd",
    "options": {"lora": "{}/lora.safetensors", "lcm": True},
}
# name -> problem, teacher, student, its one-step noise level
CASES: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "edm": (IMAGES, "edm-pkl:{}/edm.pkl", {"sigma": 80.0}),
    "edm alone": (ALONE, "edm-pkl:{}/edm.pkl", {"sigma": 80.0}),
    "cm": (IMAGES, OPENAI, {"sigma": 80.0}),
    "cm from edm": (IMAGES, OPENAI_EDM, {"sigma": 80.0, **OPENAI}),
    "ddpm": (IMAGES, "diffusers:{}/ddpm", {"timestep": 999}),
    "sd": (TEXT, GUIDED, {"timestep": 999}),
    "lcm": (TEXT, GUIDED, {"timestep": 999, **LCM}),
    "sdxl": (TEXT, "diffusers:{}/sdxl", {"timestep": 399}),
    "sdxl on latents": (LATENTS, "diffusers:{}/sdxl", {"timestep": 399}),
}


def write_files(folder: Path) -> None:
    """All that the cases name."""
    write_edm_pickle(folder / "edm.pkl")
    write_openai(folder / "cd_tiny.pt")
    write_openai(folder / "edm_tiny_ema.pt")
    save_ddpm(folder / "ddpm")
    pipeline = save_sd(folder / "sd")
    save_sdxl(folder / "sdxl")
    save_lora(folder, text_unet(pipeline.unet.config.cross_attention_dim))
    images = torch.randint(0, 256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    write_image_lmdb(folder / "lmdb", ((image, None) for image in images.byte().numpy()))
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    write_latent_lmdb(folder / "latents", zip(latents.numpy(), PROMPTS, strict=True))


def settings(name: str, files: Path, *overrides: str) -> ExperimentConfig:
    problem, teacher, student = CASES[name]
    data = copy.deepcopy(STEPS)
    data |= {"problem": problem, "student": {"kind": "denoiser", **student}}
    data["teacher"] = {"checkpoint": teacher} if isinstance(teacher, str) else {**teacher}
    data["teacher"] |= {"num_sampling_steps": 2, "sampling_sigma_max": 10.0}
    data["evaluation"]["primary"] = "energy_distance" if problem in (TEXT, LATENTS) else "fd_pixel"
    data = json.loads(json.dumps(data).replace("{}", str(files)))
    return parse_config(data, name, overrides)
