"""Images of any size, from an LMDB, with or without class labels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import DataSet, ImageLMDB
from disback_plugin.lab.metrics import (
    ClassifierSettings,
    ImageClassifier,
    all_finite,
    coarse_pixels,
    fit_gaussian,
    frechet_between,
    image_classifier,
)
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource, reference_rows

NUM_REFERENCE = 10_000  # images that the samples' distance is measured to


class ImagesConfig(ProblemSettings):
    """Images in an LMDB of DMD2's layout (`disback data lmdb`).

    conditional: whether networks are told class labels. Default: as the teacher's checkpoint is;
    not, where the teacher is trained here. in_memory: read all of it once; training then draws on
    its device. classifier: one is trained on the images' labels, for the metric `fd_classifier`.
    """

    kind: Literal["images"] = "images"
    lmdb: Path
    conditional: bool | None = None
    in_memory: bool = False
    classifier: ClassifierSettings | None = None

    @model_validator(mode="after")
    def _check(self) -> "ImagesConfig":
        if self.classifier is not None and not self.in_memory:
            raise ValueError("'classifier' needs in_memory: true")
        return self

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Of `fd_classifier` only with a classifier."""
        return ("fd_pixel",) if self.classifier is None else ("fd_pixel", "fd_classifier")

    def _load(self, teacher: TeacherSource | None) -> "ImagesProblem":
        images = ImageLMDB(self.lmdb)
        if teacher is not None:
            labelled = self.conditional is not False
            # the teacher's classes: the data may have no labels, or lack the last ones
            num_classes = teacher.description.num_classes if labelled else 0
        else:
            num_classes = images.num_classes if self.conditional else 0
        if self.classifier is not None and images.labels is None:
            raise ConfigError(f"problem.classifier needs labels, which {self.lmdb} does not have")
        if self.classifier is not None:
            self.classifier.check(len(images))
        return ImagesProblem(
            data_shape=images.data_shape,
            num_classes=num_classes,
            dataset=images.load() if self.in_memory else images,
            classifier=self.classifier,
        )


@dataclass(frozen=True, kw_only=True)
class ImagesProblem(Problem):
    """Images on disk or, for a `classifier` at least, in memory."""

    kind = "images"
    dataset: DataSet | ImageLMDB
    classifier: ClassifierSettings | None

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "ImagesEvaluator":
        data, classifier = self.dataset, None
        if self.classifier is not None:
            assert isinstance(data, DataSet)
            assert data.labels is not None
            classifier = image_classifier(
                data.samples, data.labels, self.classifier, folder, device
            )
        images, _ = data.batch(min(NUM_REFERENCE, len(data)), reference_rows())
        return ImagesEvaluator(images, classifier)


class ImagesEvaluator:
    """Frechet distances: fd_pixel of images averaged to at most 16x16, and fd_classifier.

    `data`: real images (m, C, H, W) in [-1, 1]. fd_pixel sees colours and coarse shapes, no
    texture; fd_classifier, only with a `classifier`, what its features see. Good for comparing
    arms, no substitute for FID. inf where samples are not finite.
    """

    def __init__(self, data: Tensor, classifier: ImageClassifier | None = None) -> None:
        self._spaces: dict[str, Callable[[Tensor], Tensor]] = {"fd_pixel": coarse_pixels}
        if classifier is not None:
            self._spaces["fd_classifier"] = classifier.features
        self._fits = {name: fit_gaussian(space(data)) for name, space in self._spaces.items()}

    def __call__(self, samples: Tensor) -> dict[str, float]:
        if not all_finite(samples):
            return dict.fromkeys(self._spaces, math.inf)
        return {
            name: frechet_between(fit_gaussian(space(samples)), self._fits[name])
            for name, space in self._spaces.items()
        }
