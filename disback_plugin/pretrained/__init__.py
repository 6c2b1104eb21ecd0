"""Teachers and students from published checkpoints: `load_denoiser(spec)`."""

from disback_plugin.pretrained.description import Description
from disback_plugin.pretrained.spec import KINDS, describe, load_denoiser
from disback_plugin.pretrained.text_encoder import load_text_encoder

__all__ = ["KINDS", "Description", "describe", "load_denoiser", "load_text_encoder"]
