"""From samples to the numbers of one evaluation."""

import math
from typing import Protocol

import torch
from torch import Tensor

from disback_plugin.lab.metrics.coverage import class_coverage, mode_coverage
from disback_plugin.lab.metrics.digit_classifier import NUM_CLASSES, DigitClassifier
from disback_plugin.lab.metrics.distances import fit_gaussian, frechet_between
from disback_plugin.lab.metrics.energy_distance import energy_distance
from disback_plugin.lab.metrics.sample_matrix import all_finite
from disback_plugin.lab.metrics.sliced_wasserstein import sliced_wasserstein


class Evaluator(Protocol):
    """Samples (n, *data) -> {metric: value}; deterministic, and blind to the global RNG."""

    def __call__(self, samples: Tensor) -> dict[str, float]: ...


class DigitsEvaluator:
    """fd_pixel, fd_feature (Frechet distances to `data`) and class_coverage of 8x8 digits.

    `data`: real images (m, 1, 8, 8) in [-1, 1]. Samples that are not finite are infinitely far
    and cover no class.
    """

    def __init__(self, data: Tensor, classifier: DigitClassifier) -> None:
        self.classifier = classifier
        self._pixel_fit = fit_gaussian(data)
        self._feature_fit = fit_gaussian(classifier.features(data))

    def __call__(self, samples: Tensor) -> dict[str, float]:
        if not all_finite(samples):
            return {"fd_pixel": math.inf, "fd_feature": math.inf, "class_coverage": 0.0}
        features = self.classifier.features(samples)
        return {
            "fd_pixel": frechet_between(fit_gaussian(samples), self._pixel_fit),
            "fd_feature": frechet_between(fit_gaussian(features), self._feature_fit),
            "class_coverage": class_coverage(self.classifier.classes(features), NUM_CLASSES),
        }


class GaussiansEvaluator:
    """sliced_wasserstein, energy_distance to `data` and mode_coverage of a Gaussian mixture.

    `data`: samples (m, d) of the mixture; means (k, d), std a number or (k,), weights (k,) or None.
    """

    def __init__(
        self,
        data: Tensor,
        means: Tensor,
        std: Tensor | float,
        weights: Tensor | None = None,
        num_projections: int = 128,
    ) -> None:
        self.data = data.detach().to("cpu", torch.float64)
        self.means, self.std, self.weights = means, std, weights
        self.num_projections = num_projections

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return {
            "sliced_wasserstein": sliced_wasserstein(samples, self.data, self.num_projections),
            "energy_distance": energy_distance(samples, self.data),
            "mode_coverage": mode_coverage(samples, self.means, self.std, self.weights),
        }
