"""The primary metric of every lane's averaged student, quick enough for a point every few steps."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from disback_plugin.lab.compare.stack import Stack, label_tensor
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.metrics import SlicedWasserstein
from disback_plugin.lab.problems import Evaluator, Problem
from disback_plugin.lab.trainer.batches import BatchSampler
from disback_plugin.lab.trainer.evaluation import CHUNK, evaluation_labels, evaluation_noise

Metric = Callable[[Tensor], float]


class LaneEvaluator:
    """Values (S,) of `metric` for stacked students, from the latents the trainer evaluates with."""

    def __init__(
        self,
        config: ExperimentConfig,
        problem: Problem,
        drawers: Sequence[BatchSampler],
        metric: Metric,
    ) -> None:
        num, shape = config.evaluation.num_samples, drawers[0].latent_shape
        seeds = [drawer.noise.seed for drawer in drawers]
        self._z = torch.stack([evaluation_noise(seed, num, shape) for seed in seeds])
        labels = evaluation_labels(num, problem.num_classes)
        cond = label_tensor(problem.condition(labels, self._z.device))
        self._cond = None if cond is None else cond.expand(len(drawers), -1)
        self.metric = metric

    @torch.no_grad()
    def __call__(self, students: Stack) -> list[float]:
        latents = self._z.split(CHUNK, 1)
        conds = (None,) * len(latents) if self._cond is None else self._cond.split(CHUNK, 1)
        parts = zip(latents, conds, strict=True)
        samples = torch.cat([students(z, cond).float() for z, cond in parts], dim=1)
        return [self.metric(lane) for lane in samples]


def primary_metric(config: ExperimentConfig, evaluator: Evaluator) -> Metric:
    """The experiment's primary metric alone; the sliced Wasserstein distance by its own class."""
    name = config.evaluation.primary
    data = getattr(evaluator, "data", None)
    if name == "sliced_wasserstein" and isinstance(data, Tensor):
        return SlicedWasserstein(data)
    return lambda samples: evaluator(samples)[name]
