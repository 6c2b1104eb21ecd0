"""The VAE of a pipeline, asked as the pipeline asks it: latents to pixels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.diffusers.files import make_repository
from disback_plugin.reading import shown

# with another value the pipelines would do more to the latents than divide and shift them
_UNUSED = ("latents_mean", "latents_std")


class VAEDecoder(nn.Module):
    """Latents -> images, one at a time: its memory is that of one, its result that of no batch."""

    def __init__(self, vae: Any, location: str) -> None:
        super().__init__()
        self.vae = vae.requires_grad_(False)
        self.check(location)

    def check(self, location: str) -> None:
        """Raise CheckpointError for a VAE that is not asked as here."""
        for name in _UNUSED:
            if getattr(self.vae.config, name, None) is not None:
                raise CheckpointError(
                    f"{location}: a VAE with {name} {shown(getattr(self.vae.config, name))} is not "
                    "supported"
                )

    @property
    def factor(self) -> int:
        """Pixels a latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.vae.config.out_channels

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """latents (B, C, H, W) or (B, C, 1, H, W) -> images (B, 3, f H, f W) in float32."""
        return torch.cat([self.decode(row) for row in latents.float().split(1)])

    def decode(self, row: Tensor) -> Tensor:
        """One image."""
        scaled, shift = row / self.vae.config.scaling_factor, self.vae.config.shift_factor
        scaled = scaled if shift is None else scaled + shift
        return self.vae.decode(scaled, return_dict=False)[0]


class VideoVAEDecoder(VAEDecoder):
    """Of Wan and Qwen-Image, whose images are videos of one frame."""

    def check(self, location: str) -> None:
        if getattr(self.vae.config, "patch_size", None) is not None:
            raise CheckpointError(f"{location}: a VAE with patch_size is not supported")

    @property
    def factor(self) -> int:
        return 2 ** len(self.vae.config.temperal_downsample)

    @property
    def channels(self) -> int:
        return 3

    def decode(self, row: Tensor) -> Tensor:
        config, frame = self.vae.config, row.reshape(1, row.shape[1], 1, *row.shape[-2:])
        mean, std = (row.new_tensor(one)[None] for one in (config.latents_mean, config.latents_std))
        scaled = frame / per_channel(1 / std) + per_channel(mean)
        return self.vae.decode(scaled, return_dict=False)[0][:, :, 0]


def per_channel(values: Tensor) -> Tensor:
    """(1, C) -> (1, C, 1, 1, 1)."""
    return values[..., None, None, None]


_DECODERS: dict[str, type[VAEDecoder]] = {
    "AutoencoderKL": VAEDecoder,
    "AutoencoderKLWan": VideoVAEDecoder,
    "AutoencoderKLQwenImage": VideoVAEDecoder,
}


def open_decoder(location: str, options: Mapping[str, Any]) -> VAEDecoder:
    """The VAE of a pipeline; CheckpointError where there is none."""
    vae = make_repository(location, options).vae(_DECODERS)
    return _DECODERS[type(vae).__name__](vae, location)
