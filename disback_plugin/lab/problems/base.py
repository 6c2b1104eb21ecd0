"""What every problem has: data or prompts, labels, and a judge of samples that fits them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from disback_plugin.config_base import StrictModel
from disback_plugin.diffusion import Condition, Description
from disback_plugin.errors import ConfigError, count
from disback_plugin.lab.data import SampleSource
from disback_plugin.lab.noise import generator


class Conditioner(Protocol):
    """Labels (B,) int64 on the CPU -> the condition that the networks are given, on `device`."""

    def __call__(self, labels: Tensor | None, device: torch.device) -> Condition | None: ...


def as_they_are(labels: Tensor | None, device: torch.device) -> Tensor | None:
    """Class labels are the condition itself."""
    return None if labels is None else labels.to(device)


class Evaluator(Protocol):
    """Samples (n, *data) -> {metric: value}; deterministic, and blind to the global RNG."""

    def __call__(self, samples: Tensor) -> dict[str, float]: ...


@dataclass(frozen=True, kw_only=True)
class TeacherSource:
    """A teacher that is a checkpoint: its spec for `load_denoiser`, and what was found there.

    fingerprint: one hex SHA-256 over all tensors of the loaded teacher.
    """

    spec: str
    options: dict[str, Any]
    fingerprint: str
    description: Description


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """data_shape: of one sample. num_classes: what labels number, classes or prompts; 0: none.

    dataset: None where there is nothing to compare with but the teacher's samples. condition: from
    labels to what networks take. takes_text: that is encoded prompts.
    """

    kind: ClassVar[str]
    takes_text: ClassVar[bool] = False
    data_shape: tuple[int, ...]
    num_classes: int
    dataset: SampleSource[Any] | None = None
    condition: Conditioner = as_they_are

    @abstractmethod
    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> Evaluator:
        """What judges `num_samples` samples.

        folder: the teacher's; keeps a classifier for other processes and, where there is no data,
        holds the samples that are compared with. device: of an image problem's classifier.
        """


class ProblemSettings(StrictModel):
    """Settings of a problem, with the kind and the names of the metrics that it has."""

    def load(self, teacher: TeacherSource | None = None) -> Problem:
        """The problem itself; `teacher`: where one that is a checkpoint comes from.

        Raises ConfigError where teacher and data do not fit each other.
        """
        problem = self._load(teacher)
        if teacher is not None:
            _check_teacher(problem, teacher.description)
        return problem

    @abstractmethod
    def _load(self, teacher: TeacherSource | None) -> Problem: ...


def reference_rows() -> torch.Generator:
    """What draws the data that samples are compared with: the same at every evaluation."""
    return generator(0, 0, "evaluation/data")


def _check_teacher(problem: Problem, teacher: Description) -> None:
    """Both are of text or neither, with equal shapes, and classes where both have some."""
    if problem.takes_text != (teacher.condition == "text"):
        raise ConfigError(
            "a teacher that takes text needs problem kind 'prompts' or 'latents', not "
            f"{problem.kind!r}"
        )
    if problem.data_shape != teacher.data_shape:
        raise ConfigError(
            f"the data has shape {problem.data_shape}, the teacher's samples {teacher.data_shape}"
        )
    if not problem.takes_text and problem.num_classes not in (0, teacher.num_classes):
        classes = count(problem.num_classes, "class", "classes")
        raise ConfigError(f"the problem has {classes}, the teacher {teacher.num_classes}")
