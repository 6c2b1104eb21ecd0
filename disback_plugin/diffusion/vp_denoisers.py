"""Discrete variance-preserving models (DDPM, Stable Diffusion): eps- and v-prediction."""

import torch
from torch import Tensor, nn

from disback_plugin.diffusion.preconditioned import PreconditionedDenoiser, Scalings
from disback_plugin.diffusion.vp import VPSchedule


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
