"""The one-step student: a denoiser asked once, at one noise level."""

from torch import Tensor, nn

from disback_plugin.diffusion.condition import Condition
from disback_plugin.diffusion.denoiser import Denoiser
from disback_plugin.errors import ConfigError


class OneStepStudent(nn.Module):
    """G(z) = D(sigma z, sigma, cond), the generator that starts as its teacher.

    sigma is the level at which the denoiser is asked: 80 for EDM; `denoiser.sigma_max`, that is
    t = 999, for DDPM. Raises ConfigError for a sigma that the denoiser does not know.
    """

    def __init__(self, denoiser: Denoiser, sigma: float) -> None:
        super().__init__()
        if not denoiser.sigma_min <= sigma <= denoiser.sigma_max:
            raise ConfigError(
                f"the student's sigma is {sigma}, outside its denoiser's range "
                f"[{denoiser.sigma_min:.6g}, {denoiser.sigma_max:.6g}]"
            )
        self.denoiser = denoiser
        self.sigma = float(sigma)

    def forward(self, z: Tensor, cond: Condition | None = None) -> Tensor:
        """Latent z (B, *data), standard normal, and cond of B or None -> x0 (B, *data)."""
        return self.denoiser(self.sigma * z, z.new_full((z.shape[0],), self.sigma), cond)
