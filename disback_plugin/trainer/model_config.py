"""Settings of what is trained: problem, denoiser, network, student. Chosen in YAML by `kind`."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion.vp import NUM_TIMESTEPS, ScheduleName


class GaussiansConfig(StrictModel):
    """A 2-D mixture of isotropic Gaussians (paper E.1): given `means`, or drawn from `seed`.

    Drawn means lie in [-extent, extent]^2. No `weights` means equal ones.
    """

    kind: Literal["gaussians"] = "gaussians"
    std: float = Field(default=0.08, gt=0)
    means: tuple[tuple[float, ...], ...] | None = None
    weights: tuple[float, ...] | None = None
    num_components: int = Field(default=8, gt=0)
    extent: float = Field(default=1.0, gt=0)
    seed: int = 0

    metric_names: ClassVar = ("sliced_wasserstein", "energy_distance", "mode_coverage")

    @model_validator(mode="after")
    def _check(self) -> "GaussiansConfig":
        if self.means is None:
            if self.weights is not None:
                raise ValueError("'weights' needs 'means'")
            return self
        if not self.means or len({len(mean) for mean in self.means}) != 1:
            raise ValueError("'means' needs points, all with the same number of coordinates")
        if self.weights is not None and len(self.weights) != len(self.means):
            raise ValueError(f"{len(self.weights)} weights for {len(self.means)} means")
        if self.weights is not None and (min(self.weights) <= 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights must be positive: {list(self.weights)}")
        return self


class DigitsConfig(StrictModel):
    """scikit-learn's digits, 8x8, in [-1, 1]; `conditional` trains on their labels."""

    kind: Literal["digits"] = "digits"
    conditional: bool = False

    metric_names: ClassVar = ("fd_pixel", "fd_feature", "class_coverage")


class EDMDenoiserConfig(StrictModel):
    """EDM preconditioning; sigma_data is the standard deviation of the data."""

    kind: Literal["edm"] = "edm"
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)


class ConsistencyDenoiserConfig(StrictModel):
    """Consistency-model scalings."""

    kind: Literal["consistency"] = "consistency"
    sigma_data: float = Field(default=0.5, gt=0)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)


class VPDenoiserConfig(StrictModel):
    """Discrete VP diffusion of 1,000 timesteps with `eps`- or `v`-prediction."""

    kind: Literal["eps", "v"]
    schedule: ScheduleName = "linear"
    nearest_t: bool = False
    sigma_data: float = Field(default=0.5, gt=0)


class ResidualMLPConfig(StrictModel):
    """Residual MLP for low-dimensional data; `input_skip` suits an eps-prediction."""

    kind: Literal["residual-mlp"] = "residual-mlp"
    hidden: int = Field(default=128, gt=0)
    num_blocks: int = Field(default=3, gt=0)
    zero_output: bool = False
    input_skip: bool = False


class SmallUNetConfig(StrictModel):
    """Small U-Net for 8x8 and 16x16 images."""

    kind: Literal["small-unet"] = "small-unet"
    channels: int = Field(default=32, gt=0)
    multipliers: tuple[int, ...] = (1, 2)
    num_blocks: int = Field(default=1, gt=0)
    attention: bool = True
    zero_output: bool = False


class DenoiserStudentConfig(StrictModel):
    """One-step student that starts as its teacher, asked at `sigma` or (VP) at `timestep`."""

    kind: Literal["denoiser"] = "denoiser"
    sigma: float | None = Field(default=None, gt=0)
    timestep: int | None = Field(default=None, ge=0, lt=NUM_TIMESTEPS)

    @model_validator(mode="after")
    def _check(self) -> "DenoiserStudentConfig":
        if (self.sigma is None) == (self.timestep is None):
            raise ValueError("give exactly one of 'sigma' and 'timestep'")
        return self


class GeneratorStudentConfig(StrictModel):
    """MLP from a latent z; `offset` is added to its first output bias, to start it far away."""

    kind: Literal["generator"] = "generator"
    latent_dim: int = Field(default=2, gt=0)
    hidden: int = Field(default=128, gt=0)
    num_layers: int = Field(default=3, gt=0)
    offset: tuple[float, ...] | None = None


ProblemConfig = Annotated[GaussiansConfig | DigitsConfig, Field(discriminator="kind")]
DenoiserConfig = Annotated[
    EDMDenoiserConfig | ConsistencyDenoiserConfig | VPDenoiserConfig, Field(discriminator="kind")
]
NetworkConfig = Annotated[ResidualMLPConfig | SmallUNetConfig, Field(discriminator="kind")]
StudentConfig = Annotated[
    DenoiserStudentConfig | GeneratorStudentConfig, Field(discriminator="kind")
]
