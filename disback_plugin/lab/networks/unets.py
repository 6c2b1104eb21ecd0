"""U-Nets for images: a small one, quick on a CPU, and DDPM++ told class ids."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from disback_plugin.diffusion.condition import one_hot_labels
from disback_plugin.errors import ConfigError
from disback_plugin.lab.networks.conditioning import Conditioning, film
from disback_plugin.pretrained.edm.networks import SongUNet


class SmallUNet(nn.Module):
    """F(x, c, cond) on images: one level per multiplier, each half the size of the one before.

    data_shape (C, H, W); `channels` and `channels * multiplier` divisible by 8; `num_blocks` per
    level on the way down and up; self-attention at the lowest resolution; num_classes = 0 for
    unlabelled data; noise_range: see Conditioning. zero_output starts the network at F = 0.
    input_skip adds the input to the output: the last normalisation forgets how large the input is,
    and an eps-prediction at high noise is its input, to the last per mille where it is multiplied
    by sigma. Raises ConfigError for a size that does not halve evenly.
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2),
        num_blocks: int = 1,
        attention: bool = True,
        num_classes: int = 0,
        noise_range: float = 4.0,
        zero_output: bool = False,
        input_skip: bool = False,
    ) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        self.input_skip = input_skip
        _check(self.data_shape, channels, multipliers, num_blocks)
        width = 4 * channels
        widths = [channels * multiplier for multiplier in multipliers]
        self.conditioning = Conditioning(width, num_classes, noise_range)
        self.first = nn.Conv2d(self.data_shape[0], channels, 3, padding=1)
        self.down = nn.ModuleList()
        for before, after in pairwise([channels, *widths]):
            self.down.append(_level(before, after, width, num_blocks))
        self.attention = _Attention(widths[-1]) if attention else None
        self.middle = _level(widths[-1], widths[-1], width, num_blocks)
        self.up = nn.ModuleList()
        for below, here in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.up.append(_level(below + here, here, width, num_blocks))
        self.norm = nn.GroupNorm(8, widths[0])
        self.last = nn.Conv2d(widths[0], self.data_shape[0], 3, padding=1)
        if zero_output:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), noise level c (B,), cond (B,) int64 or None -> (B, C, H, W)."""
        condition = self.conditioning(c, cond)
        h = self.first(x)
        kept = []
        for depth, level in enumerate(self.down):
            if depth:
                kept.append(h)
                h = nn.functional.avg_pool2d(h, 2)
            h = _run(level, h, condition)
        if self.attention is not None:
            h = self.attention(h)
        h = _run(self.middle, h, condition)
        for level in self.up:
            h = _run(level, torch.cat([_double(h), kept.pop()], dim=1), condition)
        out = self.last(nn.functional.silu(self.norm(h)))
        return out + x if self.input_skip else out


class _Block(nn.Module):
    """Two normed convolutions, FiLM before the second, beside a shortcut."""

    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(8, before)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.film = nn.Linear(width, 2 * after)
        self.norm_out = nn.GroupNorm(8, after, affine=False)
        self.conv_out = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        inner = self.conv_in(nn.functional.silu(self.norm_in(h)))
        inner = film(self.norm_out(inner), self.film(condition))
        return self.shortcut(h) + self.conv_out(nn.functional.silu(inner))


class _Attention(nn.Module):
    """Single-head self-attention over positions, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return h + self.out(mixed).transpose(1, 2).reshape(h.shape)


def _level(before: int, after: int, width: int, num_blocks: int) -> nn.ModuleList:
    first = _Block(before, after, width)
    return nn.ModuleList([first, *(_Block(after, after, width) for _ in range(num_blocks - 1))])


def _run(level: nn.Module, h: Tensor, condition: Tensor) -> Tensor:
    for block in level.children():
        h = block(h, condition)
    return h


def _double(h: Tensor) -> Tensor:
    """Nearest-neighbour upsampling; unlike F.interpolate its backward is deterministic on GPUs."""
    batch, channels, height, width = h.shape
    wide = h[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    return wide.reshape(batch, channels, 2 * height, 2 * width)


def _check(
    data_shape: tuple[int, ...], channels: int, multipliers: Sequence[int], num_blocks: int
) -> None:
    halvings = 2 ** (len(multipliers) - 1)
    if len(data_shape) != 3 or data_shape[1] % halvings or data_shape[2] % halvings:
        raise ConfigError(
            f"data_shape must be (C, H, W) with H and W divisible by {halvings} for "
            f"{len(multipliers)} levels, but it is {data_shape}"
        )
    if not multipliers or num_blocks < 1 or channels < 8 or channels % 8:
        raise ConfigError(
            "the U-Net needs a level, a block and channels divisible by 8, not multipliers "
            f"{tuple(multipliers)}, num_blocks {num_blocks} and channels {channels}"
        )


class LabelledSongUNet(nn.Module):
    """SongUNet on square images, told c_noise as it is (as EDM's and VP's published models are).

    data_shape (C, N, N) with N divisible by 2 for every multiplier but the first; num_classes 0
    for unlabelled data. Raises ConfigError for another shape.
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        channels: int,
        multipliers: Sequence[int],
        num_blocks: int,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.0,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        if len(data_shape) != 3 or data_shape[1] != data_shape[2]:
            raise ConfigError(f"song-unet needs square images (C, N, N), not {tuple(data_shape)}")
        self.num_classes = num_classes
        self.unet = SongUNet(
            img_resolution=data_shape[1],
            in_channels=data_shape[0],
            out_channels=data_shape[0],
            label_dim=num_classes,
            model_channels=channels,
            channel_mult=multipliers,
            num_blocks=num_blocks,
            attn_resolutions=attn_resolutions,
            dropout=dropout,
        )

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, C, N, N), noise level c (B,), cond (B,) ids or None -> (B, C, N, N)."""
        rows = None
        if self.num_classes or cond is not None:
            rows = one_hot_labels(cond, self.num_classes, x.shape[0], c)
        return self.unet(x, c, rows)
