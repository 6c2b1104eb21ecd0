"""Teachers and students from published checkpoints: `load_denoiser(spec)`."""

from disback_plugin.pretrained.spec import (
    KINDS,
    describe,
    load_decoder,
    load_denoiser,
    load_text_encoder,
)

__all__ = ["KINDS", "describe", "load_decoder", "load_denoiser", "load_text_encoder"]
