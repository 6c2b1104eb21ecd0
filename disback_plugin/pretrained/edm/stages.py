"""The way down and the way up of EDM's U-Nets; keys such as `16x16_block0` name the tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from disback_plugin.errors import ConfigError
from disback_plugin.pretrained.edm.blocks import BlockStyle
from disback_plugin.pretrained.edm.layers import Conv


class Pyramid(NamedTuple):
    """Resolution and channels of each level, from the picture down; blocks on each."""

    resolutions: tuple[int, ...]
    widths: tuple[int, ...]
    num_blocks: int
    attn_resolutions: Sequence[int]

    @classmethod
    def of(
        cls, img_resolution: int, widths: Sequence[int], num_blocks: int, attention: Sequence[int]
    ) -> "Pyramid":
        """Each level halves; ConfigError where the resolution does not halve evenly."""
        halvings = 2 ** (len(widths) - 1)
        if img_resolution % halvings:
            raise ConfigError(
                f"img_resolution must be divisible by {halvings} for {len(widths)} levels, but it "
                f"is {img_resolution}"
            )
        sizes = tuple(img_resolution >> level for level in range(len(widths)))
        return cls(sizes, tuple(widths), num_blocks, attention)

    @property
    def last(self) -> int:
        """The lowest level."""
        return len(self.widths) - 1

    def name(self, level: int) -> str:
        """What the keys of a level begin with."""
        return f"{self.resolutions[level]}x{self.resolutions[level]}"

    def attends(self, level: int) -> bool:
        """Whether blocks of a level attend."""
        return self.resolutions[level] in self.attn_resolutions


class Encoder(nn.ModuleDict):
    """A convolution, then blocks; a halving block opens each further level."""

    def __init__(
        self, pyramid: Pyramid, style: BlockStyle, in_channels: int, first_width: int
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.state_widths: list[int] = []  # of what the decoder joins
        width = first_width
        for level, after in enumerate(pyramid.widths):
            name = pyramid.name(level)
            if level:
                self[f"{name}_down"] = style.block(width, width, resample="down")
                self.add_side(level, width, style)
            else:
                self[f"{name}_conv"] = Conv(in_channels, width, 3)
            self.state_widths.append(width)
            for index in range(pyramid.num_blocks):
                before, width = width, after
                self[f"{name}_block{index}"] = style.block(before, width, pyramid.attends(level))
                self.state_widths.append(width)

    def add_side(self, level: int, width: int, style: BlockStyle) -> None:
        """For subclasses: what `join` needs at the start of a level below the first."""

    def join(self, level: int, x: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        """For subclasses: mixes the side track, which starts as the input, into a level."""
        return x, side

    def forward(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """x (B, in_channels, H, W), emb (B, E) -> every state that the decoder joins, in order."""
        side, states = x, []
        for level in range(len(self.pyramid.widths)):
            name = self.pyramid.name(level)
            if level:
                x = self[f"{name}_down"](x, emb)
                x, side = self.join(level, x, side)
            else:
                x = self[f"{name}_conv"](x)
            states.append(x)
            for index in range(self.pyramid.num_blocks):
                x = self[f"{name}_block{index}"](x, emb)
                states.append(x)
        return states


class Decoder(nn.ModuleDict):
    """Two blocks at the lowest level, then up; each further block joins one encoder state.

    every_attention: at an attention resolution all blocks attend (ADM), else the last (DDPM++).
    """

    def __init__(
        self,
        pyramid: Pyramid,
        style: BlockStyle,
        state_widths: Sequence[int],
        every_attention: bool,
    ) -> None:
        super().__init__()
        self.pyramid = pyramid
        joined = list(state_widths)
        width = joined[-1]
        for level in reversed(range(len(pyramid.widths))):
            name = pyramid.name(level)
            if level == pyramid.last:
                self[f"{name}_in0"] = style.block(width, width, attention=True)
                self[f"{name}_in1"] = style.block(width, width)
            else:
                self[f"{name}_up"] = style.block(width, width, resample="up")
            for index in range(pyramid.num_blocks + 1):
                before, width = width + joined.pop(), pyramid.widths[level]
                chosen = every_attention or index == pyramid.num_blocks
                attention = chosen and pyramid.attends(level)
                self[f"{name}_block{index}"] = style.block(before, width, attention)
            self.add_output(level, width, style)

    def add_output(self, level: int, width: int, style: BlockStyle) -> None:
        """For subclasses: what `output` needs at the end of a level."""

    def output(self, level: int, x: Tensor, picture: Tensor | None) -> Tensor | None:
        """For subclasses: the picture so far, with this level's part."""
        return x

    def forward(self, states: list[Tensor], emb: Tensor) -> Tensor:
        """The encoder's states and emb (B, E) -> the last level's output."""
        x, remaining = states[-1], list(states)
        picture: Tensor | None = None
        for level in reversed(range(len(self.pyramid.widths))):
            name = self.pyramid.name(level)
            if level == self.pyramid.last:
                x = self[f"{name}_in1"](self[f"{name}_in0"](x, emb), emb)
            else:
                x = self[f"{name}_up"](x, emb)
            for index in range(self.pyramid.num_blocks + 1):
                x = self[f"{name}_block{index}"](torch.cat([x, remaining.pop()], dim=1), emb)
            picture = self.output(level, x, picture)
        assert picture is not None
        return picture
