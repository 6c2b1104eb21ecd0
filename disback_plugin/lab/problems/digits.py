"""Handwritten digits of 8x8 pixels, with or without their labels."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from disback_plugin.lab.data import DataSet, digits_dataset
from disback_plugin.lab.metrics import (
    DigitClassifier,
    all_finite,
    class_coverage,
    digit_classifier,
    fit_gaussian,
    frechet_between,
)
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource


class DigitsConfig(ProblemSettings):
    """scikit-learn's digits, 8x8, in [-1, 1]; `conditional` trains on their labels."""

    kind: Literal["digits"] = "digits"
    conditional: bool = False

    metric_names: ClassVar = ("fd_pixel", "fd_feature", "class_coverage")

    def _load(self, teacher: TeacherSource | None) -> "DigitsProblem":
        data = digits_dataset()
        num_classes = data.num_classes if self.conditional else 0
        return DigitsProblem(data_shape=data.data_shape, num_classes=num_classes, dataset=data)


@dataclass(frozen=True, kw_only=True)
class DigitsProblem(Problem):
    """All digits that there are: training draws from them, samples are compared with them."""

    kind = "digits"
    dataset: DataSet

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "DigitsEvaluator":
        return DigitsEvaluator(self.dataset.samples, digit_classifier(folder))


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
        classes = self.classifier.classes(features)
        return {
            "fd_pixel": frechet_between(fit_gaussian(samples), self._pixel_fit),
            "fd_feature": frechet_between(fit_gaussian(features), self._feature_fit),
            "class_coverage": class_coverage(classes, self.classifier.num_classes),
        }
