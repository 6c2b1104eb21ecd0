"""Points in the plane, from a mixture of Gaussians whose density is known."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from disback_plugin.lab.data import GaussianMixture, mixture_dataset, random_mixture
from disback_plugin.lab.metrics import energy_distance, mode_coverage, sliced_wasserstein
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource, reference_rows


class GaussiansConfig(ProblemSettings):
    """A 2-D mixture of isotropic Gaussians (paper E.1): given `means`, or drawn from `seed`.

    Drawn means lie in [-extent, extent]^2. No `weights` means equal ones.
    """

    kind: Literal["gaussians"] = "gaussians"
    std: float = Field(default=0.08, gt=0)
    means: tuple[tuple[float, ...], ...] | None = None
    weights: tuple[float, ...] | None = None
    num_components: int = Field(default=8, gt=0)
    extent: float = Field(default=1.0, gt=0)
    seed: int = 0

    metric_names: ClassVar = ("sliced_wasserstein", "energy_distance", "mode_coverage")

    @model_validator(mode="after")
    def _check(self) -> "GaussiansConfig":
        if self.means is None:
            if self.weights is not None:
                raise ValueError("'weights' needs 'means'")
            return self
        if not self.means or len({len(mean) for mean in self.means}) != 1:
            raise ValueError("'means' needs points, all with the same number of coordinates")
        if self.weights is not None and len(self.weights) != len(self.means):
            raise ValueError(f"{len(self.weights)} weights for {len(self.means)} means")
        if self.weights is not None and (min(self.weights) <= 0 or sum(self.weights) <= 0):
            raise ValueError(f"weights must be positive: {list(self.weights)}")
        return self

    def _load(self, teacher: TeacherSource | None) -> "GaussiansProblem":
        mixture = self._mixture()
        data = mixture_dataset(mixture, seed=self.seed)
        return GaussiansProblem(
            data_shape=data.data_shape, num_classes=0, dataset=data, mixture=mixture
        )

    def _mixture(self) -> GaussianMixture:
        if self.means is None:
            return random_mixture(self.num_components, self.std, self.extent, self.seed)
        means = torch.tensor(self.means)
        weights = torch.tensor(self.weights or [1.0] * len(means))
        return GaussianMixture(weights=weights / weights.sum(), means=means, std=self.std)


@dataclass(frozen=True, kw_only=True)
class GaussiansProblem(Problem):
    """Samples of `mixture`, without labels."""

    kind = "gaussians"
    mixture: GaussianMixture

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "GaussiansEvaluator":
        points, _ = self.mixture.sample(num_samples, reference_rows())
        return GaussiansEvaluator(points, self.mixture)


class GaussiansEvaluator:
    """sliced_wasserstein, energy_distance to `data` (m, d) and mode_coverage of the mixture."""

    def __init__(self, data: Tensor, mixture: GaussianMixture) -> None:
        self.data = data.detach().to("cpu", torch.float64)
        self.mixture = mixture

    def __call__(self, samples: Tensor) -> dict[str, float]:
        means, std, weights = self.mixture.means, self.mixture.std, self.mixture.weights
        return {
            "sliced_wasserstein": sliced_wasserstein(samples, self.data),
            "energy_distance": energy_distance(samples, self.data),
            "mode_coverage": mode_coverage(samples, means, std, weights),
        }
