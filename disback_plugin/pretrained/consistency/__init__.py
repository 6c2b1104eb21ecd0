"""Consistency models (Song et al. 2023) from OpenAI's checkpoints and from diffusers' folders."""

from disback_plugin.pretrained.consistency.architecture import Architecture, infer_architecture
from disback_plugin.pretrained.consistency.checkpoint import read_openai_checkpoint
from disback_plugin.pretrained.consistency.denoiser import (
    OpenAIEDMDenoiser,
    describe,
    make_denoiser,
)
from disback_plugin.pretrained.consistency.opening import (
    convert_checkpoint,
    load_pipeline,
    open_checkpoint,
    save_pipeline,
)
from disback_plugin.pretrained.consistency.unet import build_unet
