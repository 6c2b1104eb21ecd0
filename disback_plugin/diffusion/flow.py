"""Rectified flow (SD3, Flux, Wan): x_t = (1 - t) x0 + t eps, and a network that predicts eps - x0.

x_t is x / (1 + sigma) with sigma = t / (1 - t). Shifting, t -> s t / (1 + (s - 1) t), is
sigma -> s sigma (Esser et al. 2024, Eq. 23): it says where samplers ask, not what the answer is.
"""

from torch import Tensor, nn

from disback_plugin.diffusion.preconditioned import PreconditionedDenoiser, Scalings
from disback_plugin.diffusion.vp import NUM_TIMESTEPS
from disback_plugin.errors import ConfigError


def t_of_sigma(sigma: Tensor) -> Tensor:
    """The flow's time in [0, 1) at sigma (any shape)."""
    return sigma / (1 + sigma)


def sigma_of_t(t: Tensor, shift: float = 1.0) -> Tensor:
    """sigma at t in [0, 1) (any shape), shifted."""
    return shift * t / (1 - t)


class FlowDenoiser(PreconditionedDenoiser):
    """Calls network(x_t, T t, cond) for v = eps - x0: x0 = x_t - t v.

    The timestep T t is continuous. The range is that of `num_timesteps` steps, shifted; t = 1, pure
    noise, has no finite sigma, so its last is the step before.
    """

    noise_range = 1000.0

    def __init__(
        self, network: nn.Module, shift: float = 1.0, num_timesteps: int = NUM_TIMESTEPS
    ) -> None:
        if not (shift > 0 and num_timesteps > 2):
            raise ConfigError(
                f"a flow needs shift > 0 and num_timesteps > 2, not {shift} and {num_timesteps}"
            )
        super().__init__(network, shift / (num_timesteps - 1), shift * (num_timesteps - 1))
        self.shift, self.num_timesteps = float(shift), num_timesteps

    def sigma_at(self, timestep: Tensor) -> Tensor:
        """sigma where the network is told `timestep`, in [0, T)."""
        return sigma_of_t(timestep / self.num_timesteps)

    def unit_noise(self, sigma: float) -> float:
        """What standard normal noise is multiplied by so that the network is given it unchanged."""
        return 1 + sigma

    def scalings(self, sigma: Tensor) -> Scalings:
        """c_skip = c_in = 1 - t, c_out = -t, c_noise = T t."""
        t, left = t_of_sigma(sigma), 1 / (1 + sigma)
        return Scalings(c_skip=left, c_out=-t, c_in=left, c_noise=self.num_timesteps * t)
