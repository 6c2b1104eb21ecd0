"""How a noise level becomes a vector: fixed waves (DDPM++, ADM) or random ones (NCSN++)."""

import math

import torch
from torch import Tensor, nn

from disback_plugin.pretrained.edm.layers import ExactBuffers, draw_normal


class PositionalEmbedding(nn.Module):
    """Waves of periods 2 pi to 2 pi 10000 in geometric steps (Vaswani et al. 2017, Sec. 3.5).

    `endpoint`: the last wave has the longest period itself. `sines_first`: DDPM++'s order.
    """

    def __init__(
        self, num_channels: int, endpoint: bool = False, sines_first: bool = False
    ) -> None:
        super().__init__()
        self.num_channels, self.endpoint, self.sines_first = num_channels, endpoint, sines_first

    def forward(self, c: Tensor) -> Tensor:
        """c (B,) -> (B, num_channels), in c's dtype."""
        num = self.num_channels // 2
        # float32 whatever c is: the published models were trained with these roundings
        ramp = torch.arange(num, dtype=torch.float32, device=c.device) / (num - int(self.endpoint))
        return _waves(c.outer(((1 / 10000) ** ramp).to(c.dtype)), self.sines_first)


class FourierEmbedding(ExactBuffers):
    """Waves of random frequencies, kept in the checkpoint (Tancik et al. 2020)."""

    freqs: Tensor

    def __init__(self, num_channels: int, scale: float = 16.0) -> None:
        super().__init__()
        self.register_buffer("freqs", draw_normal(torch.empty(num_channels // 2), scale))

    def forward(self, c: Tensor) -> Tensor:
        """c (B,) -> (B, num_channels), in c's dtype; sines first."""
        return _waves(c.outer((2 * math.pi * self.freqs).to(c.dtype)), sines_first=True)


def _waves(angle: Tensor, sines_first: bool) -> Tensor:
    pair = (angle.sin(), angle.cos()) if sines_first else (angle.cos(), angle.sin())
    return torch.cat(pair, dim=1)
