"""The real score in use on the student's samples: the mismatch (paper, Fig. 4), and its pull."""

import copy
from collections.abc import Callable
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.metrics import mismatch_degree, node_health
from disback_plugin.lab.noise import generator
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.trainer.batches import BatchSampler

QUANTILES = (0.3, 0.6, 0.9)  # of the noise levels that the student is trained at


class ScoreProbe:
    """Numbers on the student's current samples, each the mean over three noise levels.

    disback/mismatch: `metrics.Mismatch.mean_excess`; 1 is twice the least possible denoising loss.
    disback/score_gap: rms(D_fake - D_real) / sigma, the difference of the noise predictions that
    moves the student (Eq. 8). disback/health_cosine, disback/health_size: only while a node
    answers, its pull against the teacher's (`metrics.Health`). For levels apart: trainer/probe.py.

    Cost: `evaluation.num_probed` samples of the student and 4.5 times as many network passes over
    one sample, 6 times while a node answers; the floor once. For that long a copy of student, fake
    score and, for a node, teacher.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        problem: Problem,
        sampler: BatchSampler,
        accelerator: Accelerator,
    ) -> None:
        self._problem, self._accelerator = problem, accelerator
        self.num_samples = num = config.evaluation.num_probed
        self.levels = probe_levels(config)
        self._z = torch.randn(
            (num, *sampler.latent_shape), generator=generator(0, 0, "probe/z")
        ).to(sampler.device)
        self._labels: Tensor | None = None
        if problem.num_classes:  # every label in both halves
            half = torch.arange(num // 2) % problem.num_classes
            self._labels = half.repeat(2).to(sampler.device)

    def __call__(
        self,
        real_score: nn.Module,
        fake_score: nn.Module,
        student: nn.Module,
        teacher: nn.Module | None = None,
    ) -> dict[str, Any]:
        """The line's numbers; `teacher` where a node is the real score."""
        with torch.no_grad():
            samples = _frozen(student)(self._z, self._labels)
        real = self._answer(real_score)
        half = slice(self.num_samples // 2)
        health = node_health(
            self._answer(_frozen(fake_score)),
            real,
            real if teacher is None else self._answer(teacher),
            samples[half],
            self.levels,
            generator(0, 0, "probe/eps"),
            None if self._labels is None else self._labels[half],
        )
        line = {
            "disback/mismatch": self._excess(real_score, samples, self._labels),
            "disback/score_gap": health.score_gap,
        }
        if teacher is not None:
            line["disback/health_cosine"] = fmean(health.cosine)
            line["disback/health_size"] = fmean(health.size)
        return line

    def floor(self, teacher: nn.Module) -> float | None:
        """What `teacher` gets on as many samples of the data; None where labels are too few."""
        data = self._problem.dataset
        if data is None:
            return None
        samples, labels = data.batch(4 * self.num_samples, generator(0, 0, "probe/data"))
        if self._labels is None:
            return self._excess(teacher, samples[: self.num_samples].to(self._z.device), None)
        rows = None if labels is None else _rows_by_label(labels, self._labels.cpu())
        if rows is None:
            return None
        return self._excess(teacher, samples[rows].to(self._z.device), self._labels)

    def _excess(self, network: nn.Module, samples: Tensor, labels: Tensor | None) -> float:
        rows = generator(0, 0, "probe/eps")
        answer = self._answer(network)
        return mismatch_degree(answer, samples, self.levels, rows, labels).mean_excess

    def _answer(self, network: nn.Module) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
        """The network in the precision that it is trained and asked in."""

        def answer(x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            with self._accelerator.autocast():
                return network(x, sigma, labels)

        return answer


def has_probe(config: ExperimentConfig, problem: Problem) -> bool:
    """Whether there is a probe here: for samples with class labels or none, not for prompts."""
    return config.evaluation.num_probed > 0 and not problem.takes_text


def probe_levels(config: ExperimentConfig) -> tuple[float, ...]:
    """Three of the noise levels that the student is trained at, low to high."""
    drawn = config.distill.sigmas.sample(4096, generator(0, 0, "probe/levels"))
    return tuple(float(drawn.quantile(share)) for share in QUANTILES)


def _frozen(network: nn.Module) -> nn.Module:
    """A copy without dropout, not compiled: what trains keeps its mode, its graphs, its draws."""
    return copy.deepcopy(network).eval()


def _rows_by_label(labels: Tensor, wanted: Tensor) -> Tensor | None:
    """Rows of a batch whose labels are `wanted`, in order, none twice; None where they run out."""
    rows = torch.empty_like(wanted)
    for label in wanted.unique():
        found, places = (labels == label).nonzero()[:, 0], (wanted == label).nonzero()[:, 0]
        if len(found) < len(places):
            return None
        rows[places] = found[: len(places)]
    return rows
