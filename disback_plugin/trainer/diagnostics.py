"""Mismatch over training (paper, Fig. 4): does the real score in use know the student's samples."""

from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.metrics import mismatch_degree
from disback_plugin.trainer.config import ExperimentConfig
from disback_plugin.trainer.draws import Drawer
from disback_plugin.trainer.problem import Problem
from disback_plugin.trainer.rng import generator

NUM_SAMPLES = 512
QUANTILES = (0.3, 0.6, 0.9)  # of the noise levels that the student is trained at


class MismatchProbe:
    """`disback/mismatch` of a network on the student's samples, and its floor measured on data.

    The value is `metrics.Mismatch.mean_excess`: 1 is twice the least possible denoising loss. Cost:
    512 samples of the student and 768 network passes over one sample; the floor once.
    """

    def __init__(self, config: ExperimentConfig, problem: Problem, drawer: Drawer) -> None:
        self._drawer, self._problem = drawer, problem
        self.levels = probe_levels(config)
        self._z = torch.randn(
            (NUM_SAMPLES, *drawer.latent_shape), generator=generator(0, 0, "probe/z")
        ).to(drawer.device)
        self._labels: Tensor | None = None
        if problem.num_classes:  # every label in both halves
            half = torch.arange(NUM_SAMPLES // 2) % problem.num_classes
            self._labels = half.repeat(2).to(drawer.device)

    def __call__(self, real_score: nn.Module, student: nn.Module) -> dict[str, Any]:
        """The line's numbers."""
        with torch.no_grad():
            samples = student(self._z, self._labels)
        return {"disback/mismatch": self._excess(real_score, samples, self._labels)}

    def floor(self, teacher: nn.Module) -> float | None:
        """What `teacher` gets on as many samples of the data; None where labels are too few."""
        data = self._problem.dataset
        if data is None:
            return None
        samples, labels = data.batch(4 * NUM_SAMPLES, generator(0, 0, "probe/data"))
        if self._labels is None:
            return self._excess(teacher, samples[:NUM_SAMPLES].to(self._z.device), None)
        rows = None if labels is None else _rows_by_label(labels, self._labels.cpu())
        if rows is None:
            return None
        return self._excess(teacher, samples[rows].to(self._z.device), self._labels)

    def _excess(self, network: nn.Module, samples: Tensor, labels: Tensor | None) -> float:
        rows = generator(0, 0, "probe/eps")
        return mismatch_degree(network, samples, self.levels, rows, labels).mean_excess


def has_probe(problem: Problem) -> bool:
    """Whether the mismatch can be measured here: samples with class labels or none, in memory."""
    return problem.kind != "prompts"


def probe_levels(config: ExperimentConfig) -> tuple[float, ...]:
    """Three of the noise levels that the student is trained at, low to high."""
    drawn = config.distill.sigmas.sample(4096, generator(0, 0, "probe/levels"))
    return tuple(float(drawn.quantile(share)) for share in QUANTILES)


def _rows_by_label(labels: Tensor, wanted: Tensor) -> Tensor | None:
    """Rows of a batch whose labels are `wanted`, in order, none twice; None where they run out."""
    rows = torch.empty_like(wanted)
    for label in wanted.unique():
        found, places = (labels == label).nonzero()[:, 0], (wanted == label).nonzero()[:, 0]
        if len(found) < len(places):
            return None
        rows[places] = found[: len(places)]
    return rows
