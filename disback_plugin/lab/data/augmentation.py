"""What may be done to training images without making them other data."""

import torch
from torch import Tensor


def mirror_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, ..., W), each mirrored left to right with probability one half; CPU generator."""
    draw = torch.rand(len(images), generator=generator).to(images.device)
    chosen = (draw < 0.5).reshape(-1, *[1] * (images.ndim - 1))
    return torch.where(chosen, images.flip(-1), images)
