"""What a block is told besides its input: the noise level and, of labelled data, the class."""

import math

import torch
from torch import Tensor, nn

from disback_plugin.errors import ConfigError, DisBackError

LONGEST, SHORTEST = 0.25, 32.0  # waves over the whole noise range


class Conditioning(nn.Module):
    """Embeds c and the label into one vector (B, width) for every block.

    noise_range is the extent of c over all noise levels (a denoiser class's `noise_range`: 4 for
    EDM's ln(sigma)/4, 1000 for timesteps), so that the same waves resolve both. Without cond the
    label's part is zero, which is the unconditional answer.
    """

    def __init__(self, width: int, num_classes: int, noise_range: float) -> None:
        super().__init__()
        if width < 4 or width % 2 or num_classes < 0 or not noise_range > 0:
            raise ConfigError(
                "conditioning needs an even width >= 4, num_classes >= 0 and noise_range > 0, not "
                f"{width}, {num_classes} and {noise_range}"
            )
        self.width, self.num_classes, self.noise_range = width, num_classes, noise_range
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.label = nn.Embedding(num_classes, width) if num_classes else None

    def forward(self, c: Tensor, cond: Tensor | None) -> Tensor:
        """c (B,) floating, cond (B,) int64 or None -> (B, width) in the weights' dtype.

        Raises DisBackError for labels that are not (B,) int64, or given to an unlabelled network.
        """
        waves = self._waves(c).to(self.inner.weight.dtype)
        out = self.outer(nn.functional.silu(self.inner(waves)))
        if cond is not None:
            if self.label is None:
                raise DisBackError("cond was given, but the network was built with num_classes=0")
            if cond.shape != c.shape or cond.dtype != torch.int64:
                raise DisBackError(
                    f"cond must be int64 labels of shape {tuple(c.shape)}, but it is "
                    f"{cond.dtype} of shape {tuple(cond.shape)}"
                )
            out = out + self.label(cond)
        return nn.functional.silu(out)

    def _waves(self, c: Tensor) -> Tensor:
        """Sines and cosines, in float32: frequencies kept as a buffer would be rounded by .to()."""
        c = c.to(torch.promote_types(c.dtype, torch.float32))
        ramp = torch.linspace(0, 1, self.width // 2, device=c.device, dtype=c.dtype)
        waves = LONGEST * (SHORTEST / LONGEST) ** ramp
        angle = c[:, None] * (2 * math.pi / self.noise_range * waves)
        return torch.cat([angle.sin(), angle.cos()], dim=1)


def film(normed: Tensor, scale_shift: Tensor) -> Tensor:
    """normed (B, C, ...) scaled and shifted per channel by scale_shift (B, 2 C)."""
    scale, shift = scale_shift.reshape(*scale_shift.shape, *[1] * (normed.ndim - 2)).chunk(2, 1)
    return torch.addcmul(shift, normed, 1 + scale)
