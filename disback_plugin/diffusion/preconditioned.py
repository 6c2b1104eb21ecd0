"""Networks behind scalings, D = c_skip x + c_out F(c_in x, c_noise): EDM and consistency models."""

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from disback_plugin.diffusion.conversions import per_sample
from disback_plugin.diffusion.denoiser import Denoiser
from disback_plugin.errors import ConfigError, DisBackError


class Scalings(NamedTuple):
    """The four functions of sigma, each (B,), of Karras et al. 2022, Eq. 7."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class PreconditionedDenoiser(Denoiser):
    """D(x) = c_skip x + c_out F(c_in x, c_noise, cond); a subclass writes `scalings` only.

    The network may hold bf16 or fp16 weights: its first input takes their dtype, while c_noise
    stays in float32, which timesteps near 1000 need. `noise_range` is the extent of c_noise, for
    a network's noise embedding. Raises DisBackError where the network answers in another shape.
    """

    noise_range: ClassVar[float]

    def __init__(self, network: nn.Module, sigma_min: float, sigma_max: float) -> None:
        super().__init__()
        if not 0 < sigma_min < sigma_max:
            raise ConfigError(f"need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")
        self.network = network
        self.sigma_min = float(sigma_min)
        self.sigma_max = float(sigma_max)

    @abstractmethod
    def scalings(self, sigma: Tensor) -> Scalings:
        """The scalings at sigma (B,), in sigma's dtype."""

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        """Scale, call the network in its own dtype, scale back."""
        scale = self.scalings(sigma)
        weight = next(self.network.parameters(), None)
        scaled = per_sample(scale.c_in, x) * x
        if weight is not None and weight.is_floating_point():
            scaled = scaled.to(weight.dtype)
        out = self.network(scaled, scale.c_noise, cond)
        if out.shape != x.shape:
            raise DisBackError(
                f"the network answered with shape {tuple(out.shape)} to an input of shape "
                f"{tuple(x.shape)}; wrap it so that it returns its prediction only"
            )
        return per_sample(scale.c_skip, x) * x + per_sample(scale.c_out, x) * out.to(x.dtype)


class DataScaledDenoiser(PreconditionedDenoiser):
    """Scalings that know sigma_data, the data's std; the defaults are EDM's."""

    def __init__(
        self,
        network: nn.Module,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
    ) -> None:
        super().__init__(network, sigma_min, sigma_max)
        if not sigma_data > 0:
            raise ConfigError(f"sigma_data must be positive (the data's std), not {sigma_data}")
        self.sigma_data = float(sigma_data)


class EDMDenoiser(DataScaledDenoiser):
    """EDM preconditioning (Karras et al. 2022, Table 1)."""

    noise_range = 4.0

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = ln(sigma) / 4."""
        total = sigma**2 + self.sigma_data**2
        return Scalings(
            c_skip=self.sigma_data**2 / total,
            c_out=sigma * self.sigma_data / total.sqrt(),
            c_in=total.rsqrt(),
            c_noise=sigma.log() / 4,
        )


class ConsistencyDenoiser(DataScaledDenoiser):
    """Consistency-model scalings (Song et al. 2023, Appendix C): D(x, sigma_min) = x exactly.

    A trained consistency model maps to the end of the ODE, not to E[x0 | x]: it is a student and
    an initialisation, not a score.
    """

    noise_range = 4000.0

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_noise = 1000 ln(sigma) / 4; the 1e-44 is the published models' guard at sigma = 0."""
        total = sigma**2 + self.sigma_data**2
        above = sigma - self.sigma_min
        return Scalings(
            c_skip=self.sigma_data**2 / (above**2 + self.sigma_data**2),
            c_out=above * self.sigma_data / total.sqrt(),
            c_in=total.rsqrt(),
            c_noise=250 * torch.log(sigma + 1e-44),
        )
