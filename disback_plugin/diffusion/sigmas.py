"""How noise levels are drawn: frozen settings, chosen in YAML by `name`, that sample sigmas."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion.flow import sigma_of_t
from disback_plugin.diffusion.vp import NUM_TIMESTEPS, ScheduleName, vp_schedule
from disback_plugin.errors import ConfigError


def karras_sigmas(num: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """(num,) float64 from sigma_max down to sigma_min, even in sigma^(1/rho); num = 1: sigma_max.

    Source: Karras et al. 2022, Eq. 5. Raises ConfigError for values out of range.
    """
    if num < 1 or not 0 < sigma_min < sigma_max or not rho > 0:
        raise ConfigError(
            f"need num >= 1, 0 < sigma_min < sigma_max and rho > 0, not {num}, {sigma_min}, "
            f"{sigma_max} and {rho}"
        )
    ramp = torch.linspace(0, 1, num, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return (high + ramp * (low - high)) ** rho


class LogNormal(StrictModel):
    """ln sigma ~ N(mean, std^2), EDM's training distribution (Karras et al. 2022, Table 1).

    For a flow this is t logit-normal, SD3's: logit t = ln sigma; a shift s adds ln s to the mean.
    """

    name: Literal["lognormal"] = "lognormal"
    mean: float = -1.2
    std: float = Field(default=1.2, gt=0)

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """(num,) float32 sigmas on the CPU, drawn on the generator's device."""
        normal = torch.randn(num, generator=generator, device=generator.device)
        return (self.mean + self.std * normal).exp().cpu()


class _Grid(StrictModel):
    """A part of an ordered grid: `low` and `high` are fractions of it, 0 the least noise."""

    low: float = Field(default=0.0, ge=0, le=1)
    high: float = Field(default=1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _low_below_high(self) -> "_Grid":
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")
        return self

    def _indices(self, num: int, size: int, generator: torch.Generator) -> Tensor:
        first, last = round(self.low * (size - 1)), round(self.high * (size - 1))
        return torch.randint(first, last + 1, (num,), generator=generator, device=generator.device)


class KarrasGrid(_Grid):
    """Uniform over the Karras grid of `size` levels (DMD2 on EDM: size 1000, low .02, high .98)."""

    name: Literal["karras"] = "karras"
    size: int = Field(default=1000, ge=2)
    sigma_min: float = Field(default=0.002, gt=0)
    sigma_max: float = Field(default=80.0, gt=0)
    rho: float = Field(default=7.0, gt=0)

    @model_validator(mode="after")
    def _min_below_max(self) -> "KarrasGrid":
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min must be below sigma_max, not {self.sigma_min} and {self.sigma_max}"
            )
        return self

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """(num,) float32 sigmas on the CPU, drawn on the generator's device."""
        grid = karras_sigmas(self.size, self.sigma_min, self.sigma_max, self.rho).flip(0).float()
        indices = self._indices(num, self.size, generator)
        return grid.to(indices.device)[indices].cpu()


class UniformT(_Grid):
    """Uniform over the timesteps 0..999 of a discrete VP schedule (DMD2 on SD: .02 to .98)."""

    name: Literal["uniform-t"] = "uniform-t"
    schedule: ScheduleName = "linear"

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """(num,) float32 sigmas on the CPU, drawn on the generator's device."""
        t = self._indices(num, NUM_TIMESTEPS, generator)
        return vp_schedule(self.schedule).sigma_of_t(t).cpu()


class ShiftedT(StrictModel):
    """A rectified flow's t uniform over [low, high], then shifted: sigma = shift t / (1 - t)."""

    name: Literal["shifted-t"] = "shifted-t"
    shift: float = Field(default=1.0, gt=0)
    low: float = Field(default=0.001, gt=0, lt=1)
    high: float = Field(default=0.999, gt=0, lt=1)

    @model_validator(mode="after")
    def _low_below_high(self) -> "ShiftedT":
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")
        return self

    def sample(self, num: int, generator: torch.Generator) -> Tensor:
        """(num,) float32 sigmas on the CPU, drawn on the generator's device."""
        part = torch.rand(num, generator=generator, device=generator.device).cpu()
        return sigma_of_t(self.low + (self.high - self.low) * part, self.shift)


SigmaSampler = Annotated[LogNormal | KarrasGrid | UniformT | ShiftedT, Field(discriminator="name")]
