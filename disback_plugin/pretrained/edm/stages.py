"""The way down and the way up of EDM's U-Nets; keys such as `16x16_block0` name the tensors."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.errors import ConfigError
from disback_plugin.pretrained.edm.blocks import BlockStyle
from disback_plugin.pretrained.edm.layers import Conv, ConvThenHalve, GroupNorm, Resample

EncoderType = Literal["standard", "skip", "residual"]


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
    """A convolution, then blocks; a halving block opens each further level.

    encoder_type: the input picture goes down beside the blocks and is mixed in at each level; it
    keeps its channels (`skip`), or becomes the state (`residual`).
    """

    def __init__(
        self,
        pyramid: Pyramid,
        style: BlockStyle,
        in_channels: int,
        first_width: int,
        encoder_type: EncoderType = "standard",
    ) -> None:
        super().__init__()
        self.pyramid, self.encoder_type = pyramid, encoder_type
        self.state_widths: list[int] = []  # of what the decoder joins
        width, side_width = first_width, in_channels
        for level, after in enumerate(pyramid.widths):
            name = pyramid.name(level)
            if level:
                self[f"{name}_down"] = style.block(width, width, resample="down")
            else:
                self[f"{name}_conv"] = Conv(in_channels, width, 3)
            if level and encoder_type == "skip":
                self[f"{name}_aux_down"] = Resample(style.taps, up=False)
                self[f"{name}_aux_skip"] = Conv(side_width, width, 1)
            elif level and encoder_type == "residual":
                self[f"{name}_aux_residual"] = ConvThenHalve(side_width, width, 3, style.taps)
                side_width = width
            self.state_widths.append(width)
            for index in range(pyramid.num_blocks):
                before, width = width, after
                self[f"{name}_block{index}"] = style.block(before, width, pyramid.attends(level))
                self.state_widths.append(width)

    def forward(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """x (B, in_channels, H, W), emb (B, E) -> every state that the decoder joins, in order."""
        side, states = x, []
        for level in range(len(self.pyramid.widths)):
            name = self.pyramid.name(level)
            x = self[f"{name}_down"](x, emb) if level else self[f"{name}_conv"](x)
            if level and self.encoder_type == "skip":
                side = self[f"{name}_aux_down"](side)
                x = x + self[f"{name}_aux_skip"](side)
            elif level and self.encoder_type == "residual":
                x = side = (x + self[f"{name}_aux_residual"](side)) / math.sqrt(2)
            states.append(x)
            for index in range(self.pyramid.num_blocks):
                x = self[f"{name}_block{index}"](x, emb)
                states.append(x)
        return states


class Decoder(nn.ModuleDict):
    """Two blocks at the lowest level, then up; each further block joins one encoder state.

    every_attention: at an attention resolution all blocks attend (ADM), else the last (DDPM++).
    out_channels: of the picture made at the last level, or as a sum over all of them
    (`every_level`); 0: no picture is made.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        style: BlockStyle,
        state_widths: Sequence[int],
        every_attention: bool,
        out_channels: int = 0,
        every_level: bool = False,
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
            if out_channels and (every_level or not level):
                if every_level and level < pyramid.last:
                    self[f"{name}_aux_up"] = Resample(style.taps, up=True)
                self[f"{name}_aux_norm"] = GroupNorm(width, style.eps)
                self[f"{name}_aux_conv"] = Conv(width, out_channels, 3)

    def forward(self, states: list[Tensor], emb: Tensor) -> Tensor:
        """The encoder's states and emb (B, E) -> the picture, else the last level's output."""
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
            if f"{name}_aux_conv" in self:
                here = self[f"{name}_aux_conv"](F.silu(self[f"{name}_aux_norm"](x)))
                picture = here if picture is None else here + self[f"{name}_aux_up"](picture)
        return x if picture is None else picture
