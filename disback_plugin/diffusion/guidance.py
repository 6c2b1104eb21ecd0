"""Classifier-free guidance (Ho and Salimans 2022) inside a text model's network."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from disback_plugin.diffusion.condition import TextCondition
from disback_plugin.errors import ConfigError

Module = TypeVar("Module", bound=nn.Module)


class GuidedNetwork(nn.Module):
    """network(x, c, cond) pushed from its answer to the negative prompt: u + scale (c - u).

    x0, eps and v are affine in one another with the same coefficients, so it does not matter in
    which form the answers are. negative: one encoded prompt. At scale 1 it is not asked for.
    """

    negative_hidden: Tensor
    negative_pooled: Tensor | None

    def __init__(self, network: nn.Module, negative: TextCondition, scale: float) -> None:
        super().__init__()
        if not scale >= 1:
            raise ConfigError(f"guidance_scale must be at least 1 (no guidance), not {scale}")
        self.network, self.scale = network, float(scale)
        # no part of the weights: two models differ by what they learned, not by how they are asked
        self.register_buffer("negative_hidden", negative.hidden, persistent=False)
        self.register_buffer("negative_pooled", negative.pooled, persistent=False)

    def forward(self, x: Tensor, c: Tensor, cond: TextCondition) -> Tensor:
        """x (B, *data), c (B,), cond of B prompts -> the guided prediction (B, *data)."""
        if self.scale == 1:
            return self.network(x, c, cond)
        negative = TextCondition(self.negative_hidden, self.negative_pooled)[
            torch.zeros(len(x), dtype=torch.long, device=x.device)
        ]
        both = TextCondition.cat([negative, cond.to(self.negative_hidden)])
        away, towards = self.network(torch.cat([x, x]), torch.cat([c, c]), both).chunk(2)
        return away + self.scale * (towards - away)


def without_guidance(module: Module) -> Module:
    """The module, which now answers to its condition alone: a student or a fake score."""
    for part in module.modules():
        if isinstance(part, GuidedNetwork):
            part.scale = 1.0
    return module
