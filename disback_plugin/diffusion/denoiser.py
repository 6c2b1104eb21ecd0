"""The one interface to every diffusion model: D(x, sigma, cond) -> x0."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion.condition import Condition
from disback_plugin.diffusion.shapes import per_sample, working_dtype
from disback_plugin.errors import DisBackError


class Denoiser(nn.Module, ABC):
    """D(x, sigma, cond) ~ E[x0 | x], with x = x0 + sigma eps; a subclass writes `denoise` only.

    Arithmetic runs in float32 or wider, also under autocast; the result has the dtype of x.
    `description` says what was found, where the denoiser came from a checkpoint.
    """

    sigma_min: float
    sigma_max: float
    description: object = None

    def forward(self, x: Tensor, sigma: Tensor, labels: Condition | None = None) -> Tensor:
        """x (B, *data) floating, sigma (B,) -> x0 (B, *data).

        labels: ids (B,) int64, encoded prompts for a text model, or None. Raises DisBackError
        where x is not floating or sigma is not (B,).
        """
        if not x.is_floating_point():
            raise DisBackError(f"x must be a floating-point tensor, but it is {x.dtype}")
        per_sample(sigma, x)
        dtype = working_dtype(x)
        return self.denoise(x.to(dtype), sigma.to(dtype), labels).to(x.dtype)

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        """As `forward`, with x and sigma already in the working dtype and of checked shape.

        cond is what `forward` was given: a subclass says which condition it takes.
        """
