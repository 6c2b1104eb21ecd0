"""Evaluation samples: from the same latents at every evaluation, saved beside the numbers."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.diffusion import Condition
from disback_plugin.files import write_tensors
from disback_plugin.lab.noise import generator
from disback_plugin.lab.problems import Problem

CHUNK = 512  # samples per forward pass

Sample = Callable[[Tensor, Condition | None], Tensor]


def evaluation_noise(seed: int, num: int, shape: Sequence[int]) -> Tensor:
    """The latents (num, *shape) of a seed, the same for every arm and step."""
    return torch.randn((num, *shape), generator=generator(seed, 0, "evaluation/z"))


def evaluation_labels(num: int, num_classes: int) -> Tensor | None:
    """Balanced labels (num,), int64, of classes or prompts; None for an unconditional problem."""
    return torch.arange(num) % num_classes if num_classes else None


@torch.no_grad()
def draw_samples(sample: Sample, z: Tensor, problem: Problem, device: torch.device) -> Tensor:
    """`sample(z, cond)` in chunks on `device`, for balanced labels; (num, *data) on the CPU."""
    labels = evaluation_labels(len(z), problem.num_classes)
    chunks = [None] * len(z.split(CHUNK)) if labels is None else labels.split(CHUNK)
    parts = [
        sample(part.to(device), problem.condition(chunk, device)).float().cpu()
        for part, chunk in zip(z.split(CHUNK), chunks, strict=True)
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
