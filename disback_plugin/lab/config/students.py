"""Settings of the one-step student: where it starts, and what it is asked. Chosen by `kind`."""

import copy
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion import (
    Denoiser,
    FlowDenoiser,
    OneStepStudent,
    VPDenoiser,
    without_guidance,
)
from disback_plugin.diffusion.vp import NUM_TIMESTEPS
from disback_plugin.errors import ConfigError
from disback_plugin.lab.networks import MLPGenerator
from disback_plugin.lab.noise import seed_of, seeded
from disback_plugin.pretrained import describe, load_denoiser

InputNoise = Literal["sigma", "unit"]


class DenoiserStudentConfig(StrictModel):
    """One-step student, asked at `sigma` or (VP, flow) at `timestep`.

    It starts as its teacher, or as the `checkpoint`, a spec of `load_denoiser` with its `options`.
    noise: its input is noise of that level (`sigma`), or such that the network of a VP model or a
    flow is given standard normal noise (`unit`), as DMD2 and diffusers' pipelines do: at the last
    timestep nearly the same, at SDXL's 399 not.
    """

    kind: Literal["denoiser"] = "denoiser"
    checkpoint: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    sigma: float | None = Field(default=None, gt=0)
    timestep: int | None = Field(default=None, ge=0, lt=NUM_TIMESTEPS)
    noise: InputNoise = "sigma"

    @model_validator(mode="after")
    def _check(self) -> "DenoiserStudentConfig":
        if (self.sigma is None) == (self.timestep is None):
            raise ValueError("give exactly one of 'sigma' and 'timestep'")
        if self.options and self.checkpoint is None:
            raise ValueError("'options' are the checkpoint's: they need 'checkpoint'")
        return self

    def latent_shape(self, data_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one latent z: that of a sample."""
        return tuple(data_shape)

    def make(self, teacher: Denoiser, data_shape: Sequence[int], seed: int) -> OneStepStudent:
        """The student's own checkpoint or a copy of the teacher, without guidance; no `seed`."""
        denoiser = without_guidance(self._denoiser(teacher, data_shape))
        return self.ask(denoiser.requires_grad_(True))

    def ask(self, denoiser: Denoiser) -> OneStepStudent:
        """The student that asks this denoiser; ConfigError where it has no such noise level."""
        sigma = self._sigma(denoiser)
        if self.noise == "sigma":
            return OneStepStudent(denoiser, sigma)
        if not isinstance(denoiser, VPDenoiser | FlowDenoiser):
            raise ConfigError(
                "student.noise=unit is for models with timesteps (eps, v, x0, LCM, flow)"
            )
        return OneStepStudent(denoiser, sigma, denoiser.unit_noise(sigma))

    def _sigma(self, denoiser: Denoiser) -> float:
        if self.sigma is not None:
            return self.sigma
        if not isinstance(denoiser, VPDenoiser | FlowDenoiser):
            raise ConfigError(
                "student.timestep needs a teacher with timesteps (denoiser kind eps, v or flow);"
                " give student.sigma instead"
            )
        t = torch.tensor(self.timestep, dtype=torch.float64)
        return min(float(denoiser.sigma_at(t)), denoiser.sigma_max)

    def _denoiser(self, teacher: Denoiser, data_shape: Sequence[int]) -> Denoiser:
        if self.checkpoint is None:
            return copy.deepcopy(teacher)
        denoiser = load_denoiser(self.checkpoint, **self.options)
        found, due = describe(denoiser), teacher.description
        if found.data_shape != tuple(data_shape):
            raise ConfigError(
                f"student.checkpoint {self.checkpoint} makes samples of shape {found.data_shape},"
                f" the teacher takes {tuple(data_shape)}"
            )
        if due is not None and found.condition != due.condition:
            raise ConfigError(
                f"student.checkpoint {self.checkpoint} is conditioned on {found.condition!r}, the"
                f" teacher on {due.condition!r}"
            )
        return denoiser


class GeneratorStudentConfig(StrictModel):
    """MLP from a latent z, started elsewhere: its last layer times `scale`, then `offset` added."""

    kind: Literal["generator"] = "generator"
    latent_dim: int = Field(default=2, gt=0)
    hidden: int = Field(default=128, gt=0)
    num_layers: int = Field(default=3, gt=0)
    scale: float = Field(default=1.0, gt=0)
    offset: tuple[float, ...] | None = None

    def latent_shape(self, data_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of one latent z."""
        return (self.latent_dim,)

    def make(self, teacher: Denoiser, data_shape: Sequence[int], seed: int) -> MLPGenerator:
        """The generator with weights initialised from `seed`; the teacher has no part in it."""
        with seeded(seed_of(seed, 0, "student/init")):
            generator = MLPGenerator(self.latent_dim, data_shape, self.hidden, self.num_layers)
        self._move(generator)
        return generator

    def _move(self, generator: MLPGenerator) -> None:
        last = generator.layers[-1]
        assert isinstance(last, nn.Linear)
        shift = torch.zeros_like(last.bias)
        if self.offset is not None:
            shift = torch.tensor(self.offset)
        if shift.shape != last.bias.shape:
            raise ConfigError(
                f"student.offset has {len(shift)} numbers, the data {last.bias.numel()} dimensions"
            )
        with torch.no_grad():
            last.weight.mul_(self.scale)
            last.bias.mul_(self.scale).add_(shift)


StudentConfig = Annotated[
    DenoiserStudentConfig | GeneratorStudentConfig, Field(discriminator="kind")
]
