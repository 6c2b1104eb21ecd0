"""Settings of a teacher's denoiser and of the network within; chosen in YAML by `kind`."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import nn

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Denoiser,
    EDMDenoiser,
    EpsDenoiser,
    FlowDenoiser,
    VDenoiser,
    alphas_cumprod,
)
from disback_plugin.diffusion.vp import ScheduleName
from disback_plugin.lab.networks import LabelledSongUNet, ResidualMLP, SmallUNet
from disback_plugin.lab.noise import seed_of, seeded

_SCALED = {"edm": EDMDenoiser, "consistency": ConsistencyDenoiser}
_VP = {"eps": EpsDenoiser, "v": VDenoiser}


class ScaledDenoiserConfig(StrictModel):
    """EDM preconditioning or consistency-model scalings; sigma_data: the data's std."""

    kind: Literal["edm", "consistency"]
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)

    @property
    def noise_range(self) -> float:
        """The extent of the noise level that its network is told."""
        return _SCALED[self.kind].noise_range

    def make(self, network: nn.Module) -> Denoiser:
        """The denoiser around `network`."""
        return _SCALED[self.kind](network, self.sigma_data, self.sigma_min, self.sigma_max)


class VPDenoiserConfig(StrictModel):
    """Discrete VP diffusion of 1,000 timesteps with `eps`- or `v`-prediction."""

    kind: Literal["eps", "v"]
    schedule: ScheduleName = "linear"
    nearest_t: bool = False
    sigma_data: float = Field(default=0.5, gt=0)

    @property
    def noise_range(self) -> float:
        """The extent of the noise level that its network is told."""
        return _VP[self.kind].noise_range

    def make(self, network: nn.Module) -> Denoiser:
        """The denoiser around `network`."""
        return _VP[self.kind](network, alphas_cumprod(self.schedule), self.nearest_t)


class FlowDenoiserConfig(StrictModel):
    """Rectified flow of 1,000 timesteps; `shift` is where its range lies, see FlowDenoiser."""

    kind: Literal["flow"]
    shift: float = Field(default=1.0, gt=0)
    sigma_data: float = Field(default=0.5, gt=0)

    @property
    def noise_range(self) -> float:
        """The extent of the noise level that its network is told."""
        return FlowDenoiser.noise_range

    def make(self, network: nn.Module) -> Denoiser:
        """The denoiser around `network`."""
        return FlowDenoiser(network, self.shift)


class _NetworkConfig(StrictModel):
    """Settings that are, but for `kind`, the network's own arguments."""

    network: ClassVar[type[nn.Module]]

    def make(self, data_shape: Sequence[int], num_classes: int, noise_range: float) -> nn.Module:
        """The network for such data, with random weights."""
        own = self.model_dump(exclude={"kind"})
        return self.network(data_shape, num_classes=num_classes, noise_range=noise_range, **own)


class ResidualMLPConfig(_NetworkConfig):
    """Residual MLP for low-dimensional data; `input_skip` suits an eps-prediction."""

    network = ResidualMLP
    kind: Literal["residual-mlp"] = "residual-mlp"
    hidden: int = Field(default=128, gt=0)
    num_blocks: int = Field(default=3, gt=0)
    zero_output: bool = False
    input_skip: bool = False


class SmallUNetConfig(_NetworkConfig):
    """Small U-Net for 8x8 and 16x16 images; `input_skip` for an eps-prediction."""

    network = SmallUNet
    kind: Literal["small-unet"] = "small-unet"
    channels: int = Field(default=32, gt=0)
    multipliers: tuple[int, ...] = (1, 2)
    num_blocks: int = Field(default=1, gt=0)
    attention: bool = True
    zero_output: bool = False
    input_skip: bool = False


class SongUNetConfig(StrictModel):
    """DDPM++ (EDM's SongUNet) in any size, for square images; attention at `attn_resolutions`."""

    kind: Literal["song-unet"] = "song-unet"
    channels: int = Field(default=128, gt=0)
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = Field(default=4, gt=0)
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    def make(
        self, data_shape: Sequence[int], num_classes: int, noise_range: float
    ) -> LabelledSongUNet:
        """The network for such data, with random weights; it takes the noise level as it is."""
        own = self.model_dump(exclude={"kind"})
        return LabelledSongUNet(data_shape, num_classes=num_classes, **own)


DenoiserConfig = Annotated[
    ScaledDenoiserConfig | VPDenoiserConfig | FlowDenoiserConfig, Field(discriminator="kind")
]
NetworkConfig = Annotated[
    ResidualMLPConfig | SmallUNetConfig | SongUNetConfig, Field(discriminator="kind")
]


def make_teacher(
    denoiser: DenoiserConfig,
    network: NetworkConfig,
    data_shape: Sequence[int],
    num_classes: int,
    seed: int,
) -> Denoiser:
    """The denoiser with weights initialised from `seed`; the global generator is left alone."""
    with seeded(seed_of(seed, 0, "teacher/init")):
        inner = network.make(data_shape, num_classes, denoiser.noise_range)
    return denoiser.make(inner)
