"""Tiny pipelines with random weights, saved by diffusers itself in its own layout."""

from pathlib import Path
from typing import Any

from diffusers import DDIMPipeline, DDIMScheduler

from disback_plugin.lab.smoke.pipelines import tiny_unet


def save_ddim(folder: Path, **scheduler: Any) -> DDIMScheduler:
    """A DDIMPipeline in `folder`; returns its scheduler."""
    made = DDIMScheduler(**{"clip_sample": False, **scheduler})
    DDIMPipeline(unet=tiny_unet(), scheduler=made).save_pretrained(folder)
    return made
