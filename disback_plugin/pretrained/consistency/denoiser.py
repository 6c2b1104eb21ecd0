"""OpenAI's scalings around the U-Net, and what can be said about the model."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.diffusion import ConsistencyDenoiser, EDMDenoiser, PreconditionedDenoiser
from disback_plugin.diffusion.condition import class_ids
from disback_plugin.diffusion.preconditioned import Scalings
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError


class UNetNetwork(nn.Module):
    """A UNet2DModel as `network(x, c_noise, labels)`, labels ids or one-hot rows."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.num_classes = int(self.config.num_class_embeds or 0)
        if self.config.out_channels != self.config.in_channels:
            raise CheckpointError(
                f"the U-Net makes {self.config.out_channels} channels of {self.config.in_channels} "
                "('out.2.weight'): with a learned variance it is no consistency model"
            )

    @property
    def config(self) -> Any:
        """The settings of the UNet2DModel."""
        return self.unet.config

    def forward(self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), c_noise (B,), labels (B,) or (B, num_classes) -> (B, C, H, W)."""
        if labels is not None:
            labels = class_ids(labels, self.num_classes)
        elif self.num_classes:
            raise DisBackError(f"the model needs labels: ids from 0 to {self.num_classes - 1}")
        return self.unet(x, c_noise, labels).sample


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
    return PARAMETRISATIONS[parametrisation](UNetNetwork(unet), sigma_data, sigma_min, sigma_max)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a model; data_shape (C, H, W), num_classes 0 without conditioning."""

    architecture: str
    num_parameters: int
    data_shape: tuple[int, int, int]
    num_classes: int
    parametrisation: str


def facts(denoiser: PreconditionedDenoiser) -> Facts:
    """Describe a denoiser of this package; its sigma range is on the denoiser itself."""
    network = denoiser.network
    assert isinstance(network, UNetNetwork), "a denoiser of another package"
    config = network.config
    size = config.sample_size
    return Facts(
        architecture=_architecture(config),
        num_parameters=sum(weight.numel() for weight in network.parameters()),
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
