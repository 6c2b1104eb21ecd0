"""Discrete variance-preserving models (DDPM, Stable Diffusion): noise schedules and denoisers.

x_vp = sqrt(ab) x0 + sqrt(1 - ab) eps is x / sqrt(1 + sigma^2) with sigma = sqrt((1 - ab) / ab).
"""

import math
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from disback_plugin.config_base import nearest
from disback_plugin.diffusion.preconditioned import PreconditionedDenoiser, Scalings
from disback_plugin.errors import ConfigError

ScheduleName = Literal["linear", "scaled_linear", "cosine"]
NUM_TIMESTEPS = 1000


def alphas_cumprod(name: str) -> Tensor:
    """The (1000,) float64 products of 1 - beta: `linear` (DDPM), `scaled_linear` (SD), `cosine`.

    Raises ConfigError for another name. Sources: Ho et al. 2020; Rombach et al. 2022; Nichol 2021.
    """
    if name == "linear":
        betas = torch.linspace(1e-4, 0.02, NUM_TIMESTEPS, dtype=torch.float64)
    elif name == "scaled_linear":
        roots = torch.linspace(0.00085**0.5, 0.012**0.5, NUM_TIMESTEPS, dtype=torch.float64)
        betas = roots**2
    elif name == "cosine":
        t = torch.linspace(0, 1, NUM_TIMESTEPS + 1, dtype=torch.float64)
        bar = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - bar[1:] / bar[:-1]).clamp_max(0.999)
    else:
        valid = ["linear", "scaled_linear", "cosine"]
        raise ConfigError(f"unknown noise schedule {name!r}; {nearest(name, valid)}")
    return torch.cumprod(1 - betas, dim=0)


class VPSchedule:
    """sigma <-> t of a discrete schedule, continuous in t: log sigma is linear between timesteps.

    A plain object, not a module: as a buffer its table would be rounded by `module.to(bfloat16)`.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        """alphas_cumprod (T,), strictly decreasing inside (0, 1); else ConfigError."""
        bar = alphas_cumprod.detach().to("cpu", torch.float64)
        if bar.ndim != 1 or bar.shape[0] < 2:
            raise ConfigError(
                f"alphas_cumprod must be (T,) with T > 1, but it is {tuple(bar.shape)}"
            )
        if not (bar[0] < 1 and bar[-1] > 0 and bool((bar.diff() < 0).all())):
            raise ConfigError(
                "alphas_cumprod must fall strictly from below 1 to above 0, but it runs from "
                f"{bar[0]:.6g} to {bar[-1]:.6g}; a zero terminal SNR has no finite sigma"
            )
        self.num_timesteps = int(bar.shape[0])
        self.log_sigmas = ((1 - bar) / bar).log() / 2
        self.sigma_min = float(self.log_sigmas[0].exp())
        self.sigma_max = float(self.log_sigmas[-1].exp())
        self._tables: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def sigma_of_t(self, t: Tensor) -> Tensor:
        """sigma at t (any shape), clamped to [0, T-1]; float32 unless t is float64."""
        position = t.to(torch.promote_types(t.dtype, torch.float32)).clamp(
            0, self.num_timesteps - 1
        )
        table = self._table(position)
        low = position.floor().long().clamp_max(self.num_timesteps - 2)
        return torch.lerp(table[low], table[low + 1], position - low).exp()

    def t_of_sigma(self, sigma: Tensor) -> Tensor:
        """The continuous timestep of sigma (any shape); outside the schedule, the nearer end."""
        log_sigma = sigma.to(torch.promote_types(sigma.dtype, torch.float32)).log()
        table = self._table(log_sigma)
        high = torch.searchsorted(table, log_sigma.contiguous()).clamp(1, self.num_timesteps - 1)
        low = high - 1
        part = (log_sigma - table[low]) / (table[high] - table[low])
        return low + part.clamp(0, 1)

    def _table(self, like: Tensor) -> Tensor:
        """log sigmas beside `like`, copied to each device once rather than at every call."""
        key = (like.device, like.dtype)
        if key not in self._tables:
            self._tables[key] = self.log_sigmas.to(like.device, like.dtype)
        return self._tables[key]


@cache
def vp_schedule(name: ScheduleName) -> VPSchedule:
    """The schedule of that name, built once."""
    return VPSchedule(alphas_cumprod(name))


class VPDenoiser(PreconditionedDenoiser):
    """Calls network(x_vp, t, cond) with x_vp = x / sqrt(1 + sigma^2) and t from sigma.

    t is a float tensor, continuous unless `nearest_t`, which rounds it to a trained timestep. For
    sigma outside the schedule t is its nearer end.
    """

    noise_range = 1000.0

    def __init__(self, network: nn.Module, alphas_cumprod: Tensor, nearest_t: bool = False) -> None:
        schedule = VPSchedule(alphas_cumprod)
        super().__init__(network, schedule.sigma_min, schedule.sigma_max)
        self.schedule = schedule
        self.nearest_t = nearest_t

    def sigma_at(self, timestep: Tensor) -> Tensor:
        """sigma at a timestep of the schedule."""
        return self.schedule.sigma_of_t(timestep)

    def unit_noise(self, sigma: float) -> float:
        """What standard normal noise is multiplied by so that the network is given it unchanged."""
        return math.sqrt(1 + sigma**2)

    def timestep(self, sigma: Tensor) -> Tensor:
        """The timestep (B,) given to the network at sigma (B,)."""
        t = self.schedule.t_of_sigma(sigma)
        return t.round() if self.nearest_t else t


class EpsDenoiser(VPDenoiser):
    """eps-prediction: x0 = x - sigma eps."""

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_skip = 1, c_out = -sigma, c_noise = t."""
        c_in = (1 + sigma**2).rsqrt()
        return Scalings(torch.ones_like(sigma), -sigma, c_in, self.timestep(sigma))


class VDenoiser(VPDenoiser):
    """v-prediction: x0 = a x_vp - b v with a = 1/sqrt(1 + sigma^2), b = sigma a."""

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_skip = a^2, since x_vp = a x; c_out = -b, c_noise = t."""
        c_in = (1 + sigma**2).rsqrt()
        return Scalings(c_in**2, -sigma * c_in, c_in, self.timestep(sigma))


class X0Denoiser(VPDenoiser):
    """x0-prediction (diffusers calls it `sample`): the network's answer is D itself."""

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_skip = 0, c_out = 1, c_noise = t."""
        c_in, one = (1 + sigma**2).rsqrt(), torch.ones_like(sigma)
        return Scalings(torch.zeros_like(sigma), one, c_in, self.timestep(sigma))


class LCMDenoiser(EpsDenoiser):
    """Latent consistency model (Luo et al. 2023): boundary scalings around an eps-prediction.

    D = c_out (x - sigma eps) + c_skip x_vp with s = 10 t, c_skip = 0.25 / (s^2 + 0.25) and
    c_out = s / sqrt(s^2 + 0.25). Like any consistency model it is a student, not a score.
    """

    sigma_data = 0.5
    timestep_scaling = 10.0

    def scalings(self, sigma: Tensor) -> Scalings:
        """The boundary scalings, with x_vp = c_in x."""
        scaled = self.timestep_scaling * self.timestep(sigma)
        total = scaled**2 + self.sigma_data**2
        skip, out = self.sigma_data**2 / total, scaled / total.sqrt()
        inner = super().scalings(sigma)
        return inner._replace(c_skip=skip * inner.c_in + out, c_out=out * inner.c_out)
