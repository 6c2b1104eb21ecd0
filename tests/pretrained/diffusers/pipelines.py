"""Tiny pipelines with random weights, saved by diffusers itself in its own layout."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel


def tiny_unet(**settings: Any) -> UNet2DModel:
    """A U-Net of 8x8 RGB images with about 45,000 weights."""
    torch.manual_seed(1)
    return UNet2DModel(
        **{
            "sample_size": 8,
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "norm_num_groups": 4,
            "attention_head_dim": 4,
            **settings,
        }
    ).eval()


def save_ddpm(folder: Path, unet: UNet2DModel | None = None, **scheduler: Any) -> DDPMScheduler:
    """A DDPMPipeline in `folder`; returns its scheduler."""
    made = DDPMScheduler(**{"clip_sample": False, **scheduler})
    DDPMPipeline(unet=unet or tiny_unet(), scheduler=made).save_pretrained(folder)
    return made


def save_ddim(folder: Path, **scheduler: Any) -> DDIMScheduler:
    """A DDIMPipeline in `folder`; returns its scheduler."""
    made = DDIMScheduler(**{"clip_sample": False, **scheduler})
    DDIMPipeline(unet=tiny_unet(), scheduler=made).save_pretrained(folder)
    return made
