"""Evaluation samples: from the same latents at every evaluation, saved beside the numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.path.atomic import write_tensors
from disback_plugin.trainer.rng import generator

CHUNK = 512  # samples per forward pass

Sample = Callable[[Tensor, Tensor | None], Tensor]


def evaluation_noise(seed: int, num: int, shape: Sequence[int]) -> Tensor:
    """The latents (num, *shape) of a seed, the same for every arm and step."""
    return torch.randn((num, *shape), generator=generator(seed, 0, "evaluation/z"))


def evaluation_labels(num: int, num_classes: int) -> Tensor | None:
    """Balanced labels (num,), int64; None for an unconditional problem."""
    return torch.arange(num) % num_classes if num_classes else None


@torch.no_grad()
def draw_samples(sample: Sample, z: Tensor, cond: Tensor | None, device: torch.device) -> Tensor:
    """`sample(z, cond)` in chunks on `device`; returns (num, *data) on the CPU in float32."""
    conds = [None] * len(z.split(CHUNK)) if cond is None else cond.split(CHUNK)
    parts = [
        sample(part.to(device), None if labels is None else labels.to(device)).float().cpu()
        for part, labels in zip(z.split(CHUNK), conds, strict=True)
    ]
    return torch.cat(parts)


def choose_metrics(values: dict[str, float], names: Sequence[str] | None) -> dict[str, float]:
    """The metrics asked for; all of them where none are named."""
    return values if names is None else {name: values[name] for name in names}


def save_samples(file: Path, samples: Tensor, num: int) -> None:
    """Keep the first `num` samples, for the report's pictures."""
    if num:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, {"samples": samples[:num]})
