"""Tiny checkpoints in OpenAI's format: names and shapes by configuration, weights by seed."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Config:
    """A tiny U-Net; `attention` holds the downsampling factors at which it attends."""

    channels: int
    mult: tuple[int, ...]
    num_res_blocks: int = 1
    attention: tuple[int, ...] = (2,)
    num_classes: int | None = None
    scale_shift: bool = True
    resblock_updown: bool = True
    num_head_channels: int = 16
    in_channels: int = 3
    out_channels: int = 3
    size: int = 8  # of the inputs in tests


def shapes(config: Config) -> Shapes:
    """Every tensor's name and shape."""
    width = 4 * config.channels
    found = {
        **linear("time_embed.0", config.channels, width),
        **linear("time_embed.2", width, width),
    }
    if config.num_classes:
        found["label_emb.weight"] = (config.num_classes, width)
    channels = config.mult[0] * config.channels
    found |= conv("input_blocks.0.0", config.in_channels, channels)
    skips, index = [channels], 1
    for level, mult in enumerate(config.mult):
        for _ in range(config.num_res_blocks):
            out = mult * config.channels
            found |= residual(config, f"input_blocks.{index}.0", channels, out)
            channels = out
            if 2**level in config.attention:
                found |= attention(f"input_blocks.{index}.1", channels)
            skips.append(channels)
            index += 1
        if level < len(config.mult) - 1:
            if config.resblock_updown:
                found |= residual(config, f"input_blocks.{index}.0", channels, channels)
            else:
                found |= conv(f"input_blocks.{index}.0.op", channels, channels)
            skips.append(channels)
            index += 1
    found |= residual(config, "middle_block.0", channels, channels)
    found |= attention("middle_block.1", channels)
    found |= residual(config, "middle_block.2", channels, channels)
    index = 0
    for level, mult in reversed(list(enumerate(config.mult))):
        for block in range(config.num_res_blocks + 1):
            out, place = mult * config.channels, 1
            found |= residual(config, f"output_blocks.{index}.0", channels + skips.pop(), out)
            channels = out
            if 2**level in config.attention:
                found |= attention(f"output_blocks.{index}.1", channels)
                place = 2
            if level and block == config.num_res_blocks:
                name = f"output_blocks.{index}.{place}"
                if config.resblock_updown:
                    found |= residual(config, name, channels, channels)
                else:
                    found |= conv(f"{name}.conv", channels, channels)
            index += 1
    return found | norm("out.0", channels) | conv("out.2", channels, config.out_channels)


def linear(name: str, num_in: int, num_out: int) -> Shapes:
    return {f"{name}.weight": (num_out, num_in), f"{name}.bias": (num_out,)}


def conv(name: str, num_in: int, num_out: int, size: int = 3) -> Shapes:
    return {f"{name}.weight": (num_out, num_in, size, size), f"{name}.bias": (num_out,)}


def norm(name: str, channels: int) -> Shapes:
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def residual(config: Config, name: str, num_in: int, num_out: int) -> Shapes:
    embedding = (2 if config.scale_shift else 1) * num_out
    found = {
        **norm(f"{name}.in_layers.0", num_in),
        **conv(f"{name}.in_layers.2", num_in, num_out),
        **linear(f"{name}.emb_layers.1", 4 * config.channels, embedding),
        **norm(f"{name}.out_layers.0", num_out),
        **conv(f"{name}.out_layers.3", num_out, num_out),
    }
    if num_in != num_out:
        found |= conv(f"{name}.skip_connection", num_in, num_out, 1)
    return found


def attention(name: str, channels: int) -> Shapes:
    return {
        **norm(f"{name}.norm", channels),
        **conv(f"{name}.qkv", channels, 3 * channels, 1),
        **conv(f"{name}.proj_out", channels, channels, 1),
    }


def fill(named: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Seeded weights, drawn in the order of sorted names; none is zero, so none hides an error."""
    generator = torch.Generator().manual_seed(seed)
    filled = {}
    for name, shape in sorted(named.items()):
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            filled[name] = noise / math.sqrt(math.prod(shape[1:]))
        else:
            filled[name] = 0.2 * noise + float(name.endswith("weight"))
    return filled


def write(file: Path, config: Config, seed: int = 0) -> dict[str, Tensor]:
    """Save a checkpoint and return its tensors."""
    tensors = fill(shapes(config), seed)
    torch.save(tensors, file)
    return tensors
