"""Denoising score matching: Eq. 5 (fake score) and Eq. 7 (degradation recording)."""

from collections.abc import Callable

from torch import Tensor

from disback_plugin.config_base import nearest
from disback_plugin.diffusion.shapes import per_sample, working_dtype
from disback_plugin.errors import ConfigError

Weighting = Callable[[Tensor, float], Tensor]

# weight of |x0_hat - x0|^2 at (sigma, sigma_data); Eq. 5 itself is 1/sigma^4, useless in practice
WEIGHTINGS: dict[str, Weighting] = {
    "edm": lambda sigma, data: (sigma**2 + data**2) / (sigma * data) ** 2,
    "eps": lambda sigma, data: sigma**-2,
    "dmd2": lambda sigma, data: sigma**-2 + data**-2,
    "uniform": lambda sigma, data: sigma**0,
}


def denoising_score_matching(
    x0_hat: Tensor,
    x0: Tensor,
    sigma: Tensor,
    weighting: str = "edm",
    sigma_data: float = 0.5,
) -> Tensor:
    """Eq. 5 / Eq. 7 on x0 predictions: mean over batch and data of weight(sigma) (x0_hat - x0)^2.

    x0_hat, x0 (B, *data), sigma (B,) -> scalar in float32 or wider. `eps` equals the mean squared
    error of eps-prediction. Raises ConfigError for an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        hint = nearest(weighting, list(WEIGHTINGS))
        raise ConfigError(f"unknown loss weighting {weighting!r}; {hint}")
    dtype = working_dtype(x0_hat)
    weight = WEIGHTINGS[weighting](per_sample(sigma, x0_hat).to(dtype), sigma_data)
    return (weight * (x0_hat.to(dtype) - x0.to(dtype)).square()).mean()
