"""Tiny checkpoints in OpenAI's format: the layouts that were released, and two that were not."""

import torch
from torch import Tensor

from disback_plugin.lab.smoke.openai import Config

# as ImageNet-64, as LSUN-256, and the two that were never released, with odd widths
CASES = {
    "imagenet": Config(channels=32, mult=(1, 2, 3), attention=(2, 4), num_classes=10),
    "lsun": Config(
        channels=32, mult=(1, 1, 2), num_res_blocks=2, attention=(4,), scale_shift=False
    ),
    "convolutions": Config(
        channels=96,
        mult=(1, 1),
        num_res_blocks=2,
        attention=(1,),
        num_classes=3,
        scale_shift=False,
        resblock_updown=False,
        num_head_channels=32,
        in_channels=1,
        out_channels=1,
    ),
    "mixed": Config(
        channels=32,
        mult=(1, 3, 2, 2),
        attention=(1, 4),
        resblock_updown=False,
        num_head_channels=32,
        in_channels=2,
        out_channels=2,
    ),
}


def inputs(config: Config) -> tuple[Tensor, Tensor, Tensor | None]:
    """x of two noise levels (2, C, size, size), sigma (2,), labels (2,) or None."""
    generator = torch.Generator().manual_seed(1)
    sigma = torch.tensor([0.7, 80.0])
    noise = torch.randn(2, config.in_channels, config.size, config.size, generator=generator)
    labels = torch.tensor([1, 2]) if config.num_classes else None
    return sigma[:, None, None, None] * noise, sigma, labels
