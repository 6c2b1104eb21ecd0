"""Layers that compute in the dtype of their input: resampling and embeddings of EDM's networks.

Half-precision passes keep float32 weights: each layer casts its own at the call.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.errors import ConfigError


class Linear(nn.Linear):
    """nn.Linear in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_features) -> (B, out_features)."""
        return F.linear(x, self.weight.to(x.dtype), _cast(self.bias, x))


class GroupNorm(nn.GroupNorm):
    """Up to 32 groups of at least 4 channels, in the dtype of the input.

    Raises ConfigError for a number of channels that these do not divide.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        groups = max(1, min(32, num_channels // 4))
        if num_channels % groups:
            raise ConfigError(f"{num_channels} channels do not make {groups} groups of one size")
        super().__init__(groups, num_channels, eps)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same shape."""
        return F.group_norm(
            x, self.num_groups, _cast(self.weight, x), _cast(self.bias, x), self.eps
        )


class Conv(nn.Conv2d):
    """A convolution that keeps the size, in the dtype of its input."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return F.conv2d(x, self.weight.to(x.dtype), _cast(self.bias, x), padding=self.padding)


class Resample(nn.Module):
    """Doubles (`up`) or halves the size of a picture by a separable filter, channel by channel."""

    resample_filter: Tensor

    def __init__(self, taps: Sequence[float], up: bool) -> None:
        super().__init__()
        self.up = up
        self.register_buffer("resample_filter", _outer(taps))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, 2 H, 2 W) or (B, C, H / 2, W / 2)."""
        return _double(x, self.resample_filter) if self.up else _halve(x, self.resample_filter)


class ResampledConv(Conv):
    """Resamples its input, then convolves it."""

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, taps: Sequence[float], up: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel)
        self.up = up
        self.register_buffer("resample_filter", _outer(taps))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, H, W) -> (B, out_channels, 2 H, 2 W) or half the size."""
        resample = _double if self.up else _halve
        return super().forward(resample(x, self.resample_filter))


class ConvThenHalve(Conv):
    """Convolves beyond the border, then halves: NCSN++'s way down for the input picture.

    Not `ResampledConv` in another order only: the filter sees what the convolution makes of the
    border instead of zeros.
    """

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, taps: Sequence[float]
    ) -> None:
        super().__init__(in_channels, out_channels, kernel)
        self.register_buffer("resample_filter", _outer(taps))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2)."""
        border = self.weight.shape[-1] // 2 + _margin(self.resample_filter)
        wide = F.conv2d(x, self.weight.to(x.dtype), padding=border)
        halved = _halve(wide, self.resample_filter, margin=0)
        return halved if self.bias is None else halved + self.bias.to(x.dtype)[:, None, None]


class ExactBuffers(nn.Module):
    """Its own buffers keep their dtype: `.to(bfloat16)` would turn frequencies into others."""

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> "ExactBuffers":
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, kept in before.items():
            moved = self._buffers[name]
            if kept is not None and moved is not None and moved.dtype != kept.dtype:
                self._buffers[name] = kept.to(moved.device)
        return self


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

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs", draw_normal(torch.empty(num_channels // 2), 16.0))

    def forward(self, c: Tensor) -> Tensor:
        """c (B,) -> (B, num_channels), in c's dtype; sines first."""
        return _waves(c.outer((2 * math.pi * self.freqs).to(c.dtype)), sines_first=True)


def draw_normal(tensor: Tensor, std: float = 1.0) -> Tensor:
    """Fill in place, unless on the meta device, where drawing imports the compiler for seconds."""
    return tensor if tensor.is_meta else nn.init.normal_(tensor, std=std)


def _cast(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(like.dtype)


def _outer(taps: Sequence[float]) -> Tensor:
    """The separable filter (1, 1, K, K) of these taps, of sum 1."""
    # in plain numbers, for the same reason as in draw_normal
    total = sum(taps)
    rows = [[one * other / (total * total) for other in taps] for one in taps]
    return torch.tensor([[rows]], dtype=torch.float32)


def _margin(kernel: Tensor) -> int:
    return (kernel.shape[-1] - 1) // 2


def _halve(x: Tensor, kernel: Tensor, margin: int | None = None) -> Tensor:
    weight = kernel.to(x.dtype).repeat(x.shape[1], 1, 1, 1)
    padding = _margin(kernel) if margin is None else margin
    return F.conv2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


def _double(x: Tensor, kernel: Tensor) -> Tensor:
    # of four pixels made of one each gets a quarter of the filter's sum: times four
    weight = (4 * kernel.to(x.dtype)).repeat(x.shape[1], 1, 1, 1)
    padding = _margin(kernel)
    return F.conv_transpose2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


def _waves(angle: Tensor, sines_first: bool) -> Tensor:
    pair = (angle.sin(), angle.cos()) if sines_first else (angle.cos(), angle.sin())
    return torch.cat(pair, dim=1)
