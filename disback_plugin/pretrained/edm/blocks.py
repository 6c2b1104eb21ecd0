"""The residual block of EDM's U-Nets, with and without self-attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from disback_plugin.errors import ConfigError
from disback_plugin.pretrained.edm.layers import Conv, GroupNorm, Linear, Resample, ResampledConv


@dataclass(frozen=True, kw_only=True)
class BlockStyle:
    """What all blocks of one network share.

    scale: of every residual sum. adaptive_scale: the noise level scales and shifts after the
    second norm, else it shifts before. num_heads: None for one head per 64 channels. taps: the
    resampling filter. project_resampled: a 1x1 convolution on each resampled shortcut.
    """

    emb_channels: int
    dropout: float
    scale: float = 1.0
    eps: float = 1e-5
    adaptive_scale: bool = True
    num_heads: int | None = None
    taps: Sequence[float] = (1, 1)
    project_resampled: bool = False

    def block(
        self, before: int, after: int, attention: bool = False, resample: str | None = None
    ) -> "ResidualBlock":
        """From `before` to `after` channels; resample: `up`, `down` or None."""
        heads = after // 64 if self.num_heads is None else self.num_heads
        if attention and heads:  # fewer than 64 channels make no head
            return AttentionBlock(self, before, after, heads)
        return ResidualBlock(self, before, after, resample)


class ResidualBlock(nn.Module):
    """Two normed convolutions, told the noise level in between, beside a shortcut.

    checkpointing: for a backward pass the block runs again, rather than keep what lies between.
    """

    checkpointing = False

    def __init__(self, style: BlockStyle, before: int, after: int, resample: str | None) -> None:
        super().__init__()
        self.scale, self.dropout = style.scale, style.dropout
        self.adaptive_scale = style.adaptive_scale
        up = resample == "up"
        self.norm0 = GroupNorm(before, style.eps)
        self.conv0 = (
            ResampledConv(before, after, 3, style.taps, up) if resample else Conv(before, after, 3)
        )
        self.affine = Linear(style.emb_channels, after * (2 if style.adaptive_scale else 1))
        self.norm1 = GroupNorm(after, style.eps)
        self.conv1 = Conv(after, after, 3)
        self.skip: nn.Module | None = None
        if resample and (style.project_resampled or before != after):
            self.skip = ResampledConv(before, after, 1, style.taps, up)
        elif resample:
            self.skip = Resample(style.taps, up)
        elif before != after:
            self.skip = Conv(before, after, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, before, H, W), emb (B, emb_channels) -> (B, after, ...) in x's dtype."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self.answer, x, emb, use_reentrant=False)
        return self.answer(x, emb)

    def answer(self, x: Tensor, emb: Tensor) -> Tensor:
        """As `forward`, everything kept."""
        h = self.conv0(F.silu(self.norm0(x)))
        told = self.affine(emb)[:, :, None, None].to(h.dtype)
        if self.adaptive_scale:
            scale, shift = told.chunk(2, dim=1)
            h = torch.addcmul(shift, self.norm1(h), scale + 1)
        else:
            h = self.norm1(h + told)
        h = self.conv1(F.dropout(F.silu(h), self.dropout, self.training))
        return (h + (x if self.skip is None else self.skip(x))) * self.scale


class AttentionBlock(ResidualBlock):
    """A residual block followed by self-attention over all pixels."""

    def __init__(self, style: BlockStyle, before: int, after: int, num_heads: int) -> None:
        if after % num_heads:
            raise ConfigError(f"{after} channels do not make {num_heads} heads of one size")
        super().__init__(style, before, after, resample=None)
        self.num_heads = num_heads
        self.norm2 = GroupNorm(after, style.eps)
        self.qkv = Conv(after, 3 * after, 1)
        self.proj = Conv(after, after, 1)

    def answer(self, x: Tensor, emb: Tensor) -> Tensor:
        """As ResidualBlock."""
        x = super().answer(x, emb)
        batch, channels, _, _ = x.shape
        width = channels // self.num_heads
        # the checkpoints order these channels by head, channel, then query, key and value
        qkv = self.qkv(self.norm2(x)).reshape(batch, self.num_heads, width, 3, -1)
        query, key, value = qkv.permute(3, 0, 1, 4, 2).contiguous().unbind(0)
        mixed = F.scaled_dot_product_attention(query, key, value)
        # contiguous: else channels-last spreads to all that follows, and dropout draws in its order
        mixed = mixed.transpose(2, 3).reshape(x.shape).contiguous()
        return (self.proj(mixed) + x) * self.scale
