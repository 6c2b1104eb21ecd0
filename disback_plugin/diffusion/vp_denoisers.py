"""Discrete variance-preserving models (DDPM, Stable Diffusion): eps-, v- and x0-prediction."""

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
