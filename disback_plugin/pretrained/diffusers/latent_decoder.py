"""The VAE of a Stable Diffusion pipeline, asked as the pipeline asks it: latents to pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.diffusers.files import make_repository
from disback_plugin.reading import shown

# with another value the pipelines would do more to the latents than divide them
_UNUSED = ("latents_mean", "latents_std", "shift_factor")


class VAEDecoder(nn.Module):
    """Latents -> images, one at a time: its memory is that of one, its result that of no batch."""

    def __init__(self, vae: Any, location: str) -> None:
        super().__init__()
        for name in _UNUSED:
            if getattr(vae.config, name, None) is not None:
                raise CheckpointError(
                    f"{location}: a VAE with {name} {shown(getattr(vae.config, name))} is not "
                    "supported"
                )
        self.vae = vae.requires_grad_(False)
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels a latent
        self.channels = vae.config.out_channels

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, C, H, W) -> images (B, 3, f H, f W) in float32."""
        scaled = latents.float() / self.vae.config.scaling_factor
        rows = scaled.split(1)
        return torch.cat([self.vae.decode(row, return_dict=False)[0] for row in rows])


def open_decoder(location: str, options: Mapping[str, Any]) -> VAEDecoder:
    """The VAE of a pipeline; CheckpointError where there is none."""
    return VAEDecoder(make_repository(location, options).vae(), location)
