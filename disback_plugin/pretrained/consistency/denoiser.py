"""OpenAI's scalings around the U-Net, and what can be said about the model."""

from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Description,
    EDMDenoiser,
    PreconditionedDenoiser,
    Scalings,
)
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.image_unet import ImageUNet


class OpenAIEDMDenoiser(EDMDenoiser):
    """EDM's scalings with the time input of OpenAI's code, 1000 ln(sigma) / 4: `edm_*_ema.pt`."""

    noise_range = 4000.0

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = 1000 ln(sigma) / 4, otherwise Karras et al. 2022, Table 1."""
        return super().scalings(sigma)._replace(c_noise=250 * torch.log(sigma + 1e-44))


PARAMETRISATIONS: dict[str, type[ConsistencyDenoiser] | type[OpenAIEDMDenoiser]] = {
    "consistency": ConsistencyDenoiser,
    "edm": OpenAIEDMDenoiser,
}


def make_denoiser(
    unet: nn.Module,
    parametrisation: str,
    sigma_data: float = 0.5,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> PreconditionedDenoiser:
    """The denoiser of a U-Net: `consistency` (boundary scalings) or `edm` (a score teacher)."""
    if parametrisation not in PARAMETRISATIONS:
        raise ConfigError(
            f"parametrisation must be {' or '.join(PARAMETRISATIONS)}, not {parametrisation!r}"
        )
    network = ImageUNet(unet)
    channels, answered = network.config.in_channels, network.config.out_channels
    if answered != channels:
        raise CheckpointError(
            f"the U-Net makes {answered} channels of {channels} ('out.2.weight'): with a learned "
            "variance it is no consistency model"
        )
    denoiser = PARAMETRISATIONS[parametrisation](network, sigma_data, sigma_min, sigma_max)
    denoiser.description = describe(denoiser)
    return denoiser


def describe(denoiser: PreconditionedDenoiser) -> Description:
    """What a denoiser of this package is."""
    network = denoiser.network
    assert isinstance(network, ImageUNet), "a denoiser of another package"
    config = network.config
    size = config.sample_size
    return Description.of(
        denoiser,
        source="cm",
        architecture=_architecture(config),
        data_shape=(config.in_channels, size, size),
        num_classes=network.num_classes,
        parametrisation="consistency" if isinstance(denoiser, ConsistencyDenoiser) else "edm",
    )


def _architecture(config: Any) -> str:
    attends = [
        str(config.sample_size // 2**level)
        for level, kind in enumerate(config.down_block_types)
        if kind.startswith("Attn")
    ]
    channels = "-".join(str(width) for width in config.block_out_channels)
    shift = "scale-shift" if config.resnet_time_scale_shift == "scale_shift" else "shift"
    return (
        f"UNet2DModel of {channels} channels, {config.layers_per_block} blocks a level, attention "
        f"at {', '.join(attends) or 'the middle only'} with heads of {config.attention_head_dim}, "
        f"{shift} conditioning, {config.downsample_type} resampling"
    )
