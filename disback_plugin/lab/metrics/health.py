"""Node health: does a node pull the student where the teacher would, and how hard (Eq. 8)."""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor

from disback_plugin.diffusion import diffuse
from disback_plugin.lab.metrics.mismatch import Denoise


class Health(NamedTuple):
    """Per noise level, over a batch: the node's pull against the teacher's, and the score gaps.

    cosine: of D_fake - D_node with D_fake - D_teacher; about 1 for a damped teacher, about 0 for
    noise. size: |D_fake - D_node| / |D_fake - D_teacher|. gap, teacher_gap: root mean squares of
    the two differences, in data units.
    """

    sigmas: tuple[float, ...]
    cosine: tuple[float, ...]
    size: tuple[float, ...]
    gap: tuple[float, ...]
    teacher_gap: tuple[float, ...]

    @property
    def score_gap(self) -> float:
        """`gap` / sigma, mean over the levels: by how much the two noise predictions differ."""
        return fmean(gap / sigma for gap, sigma in zip(self.gap, self.sigmas, strict=True))


@torch.no_grad()
def node_health(
    fake_score: Denoise,
    node: Denoise,
    teacher: Denoise,
    samples: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator,
    labels: Tensor | None = None,
) -> Health:
    """Probe a node on the student's current samples (n, *data), the same noise for all networks.

    Cost: three forward passes a sample and level; two where `node` is `teacher`, the same object.
    """
    columns = []
    for level in sigmas:
        sigma = samples.new_full((len(samples),), level)
        x_t = diffuse(samples, sigma, torch.randn(samples.shape, generator=generator).to(samples))
        fake = fake_score(x_t, sigma, labels)
        pull = fake - node(x_t, sigma, labels)
        full = pull if teacher is node else fake - teacher(x_t, sigma, labels)
        columns.append(compare_pulls(pull, full))
    cosine, size, gap, teacher_gap = zip(*columns, strict=True)
    return Health(tuple(sigmas), cosine, size, gap, teacher_gap)


def compare_pulls(pull: Tensor, full: Tensor) -> tuple[float, float, float, float]:
    """cosine, relative size, and both root mean squares of two (n, *data) differences.

    Where a difference is zero there is no direction: the cosine is then 0.
    """
    a, b = pull.double().flatten(), full.double().flatten()
    norm_a, norm_b = float(a.norm()), float(b.norm())
    cosine = float(a @ b) / (norm_a * norm_b) if norm_a * norm_b > 0 else 0.0
    root = a.numel() ** 0.5
    size = norm_a / norm_b if norm_b > 0 else float("inf")
    return cosine, size, norm_a / root, norm_b / root
