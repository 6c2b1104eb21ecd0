"""Settings of what is trained: problem, denoiser, network, student. Chosen in YAML by `kind`."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion.vp import NUM_TIMESTEPS, ScheduleName
from disback_plugin.lab.metrics import ClassifierSettings


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


class ImagesConfig(StrictModel):
    """Images in an LMDB of DMD2's layout (`disback data lmdb`).

    conditional: whether networks are told class labels. Default: as the teacher's checkpoint is;
    not, where the teacher is trained here. in_memory: read all of it once; training then draws on
    its device. classifier: one is trained on the images' labels, for the metric `fd_classifier`.
    """

    kind: Literal["images"] = "images"
    lmdb: Path
    conditional: bool | None = None
    in_memory: bool = False
    classifier: ClassifierSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> "ImagesConfig":
        if self.classifier is not None and not self.in_memory:
            raise ValueError("'classifier' needs in_memory: true")
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Of `fd_classifier` only with a classifier."""
        return ("fd_pixel",) if self.classifier is None else ("fd_pixel", "fd_classifier")


class PromptsConfig(StrictModel):
    """Prompts alone, for a teacher that takes text; judged against the teacher's own samples.

    `column`, `split`: of a table or a data set; `trust_pickle`: read a .pkl (nothing in it is run).
    """

    kind: Literal["prompts"] = "prompts"
    file: str
    column: str | None = None
    split: str | None = None
    trust_pickle: bool = False

    metric_names: ClassVar = ("energy_distance",)


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


class SongUNetConfig(StrictModel):
    """DDPM++ (EDM's SongUNet) in any size, for square images; attention at `attn_resolutions`."""

    kind: Literal["song-unet"] = "song-unet"
    channels: int = Field(default=128, gt=0)
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = Field(default=4, gt=0)
    attn_resolutions: tuple[int, ...] = (16,)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class DenoiserStudentConfig(StrictModel):
    """One-step student, asked at `sigma` or (VP) at `timestep`.

    It starts as its teacher, or as the `checkpoint`, a spec of `load_denoiser` with its `options`.
    """

    kind: Literal["denoiser"] = "denoiser"
    checkpoint: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    sigma: float | None = Field(default=None, gt=0)
    timestep: int | None = Field(default=None, ge=0, lt=NUM_TIMESTEPS)

    @model_validator(mode="after")
    def _check(self) -> "DenoiserStudentConfig":
        if (self.sigma is None) == (self.timestep is None):
            raise ValueError("give exactly one of 'sigma' and 'timestep'")
        if self.options and self.checkpoint is None:
            raise ValueError("'options' are the checkpoint's: they need 'checkpoint'")
        return self


class GeneratorStudentConfig(StrictModel):
    """MLP from a latent z, started elsewhere: its last layer times `scale`, then `offset` added."""

    kind: Literal["generator"] = "generator"
    latent_dim: int = Field(default=2, gt=0)
    hidden: int = Field(default=128, gt=0)
    num_layers: int = Field(default=3, gt=0)
    scale: float = Field(default=1.0, gt=0)
    offset: tuple[float, ...] | None = None


ProblemConfig = Annotated[
    GaussiansConfig | DigitsConfig | ImagesConfig | PromptsConfig, Field(discriminator="kind")
]
DenoiserConfig = Annotated[
    EDMDenoiserConfig | ConsistencyDenoiserConfig | VPDenoiserConfig, Field(discriminator="kind")
]
NetworkConfig = Annotated[
    ResidualMLPConfig | SmallUNetConfig | SongUNetConfig, Field(discriminator="kind")
]
StudentConfig = Annotated[
    DenoiserStudentConfig | GeneratorStudentConfig, Field(discriminator="kind")
]
