"""A teacher alone, without any data: what is to be drawn is what the teacher draws."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource
from disback_plugin.lab.problems.images import ImagesEvaluator
from disback_plugin.lab.problems.samples import read_samples, samples_file


class TeacherAloneConfig(ProblemSettings):
    """No data: shape and classes are those of the teacher's checkpoint, of images.

    conditional: whether networks are told class labels; default: as the checkpoint is.
    """

    kind: Literal["teacher"] = "teacher"
    conditional: bool | None = None

    metric_names: ClassVar = ("fd_pixel",)

    def _load(self, teacher: TeacherSource | None) -> "TeacherAloneProblem":
        if teacher is None:
            raise ConfigError(
                "problem kind 'teacher' needs a teacher that is a checkpoint: teacher: edm-pkl:FILE"
            )
        found = teacher.description
        if len(found.data_shape) != 3:
            raise ConfigError(
                f"problem kind 'teacher' is for teachers of images, {teacher.spec} makes samples "
                f"of shape {found.data_shape}"
            )
        num_classes = 0 if self.conditional is False else found.num_classes
        return TeacherAloneProblem(data_shape=found.data_shape, num_classes=num_classes)


@dataclass(frozen=True, kw_only=True)
class TeacherAloneProblem(Problem):
    """Nothing to train or to judge with but the teacher."""

    kind = "teacher"

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "TeacherAloneEvaluator":
        return TeacherAloneEvaluator(samples_file(folder))


class TeacherAloneEvaluator:
    """fd_pixel (see `ImagesEvaluator`) to the teacher's samples in a file, there at the first call.

    It tells how far a run is; the FID of the paper's tables is that of `disback eval`.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return self._evaluator(samples)

    @cached_property
    def _evaluator(self) -> ImagesEvaluator:
        return ImagesEvaluator(read_samples(self.file))
