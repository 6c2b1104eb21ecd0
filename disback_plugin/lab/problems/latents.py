"""VAE latents with their prompts, from an LMDB of DMD2's layout, for a teacher that takes text."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, overload

import torch
from torch import Tensor

from disback_plugin.lab.data import LatentLMDB
from disback_plugin.lab.metrics import energy_distance
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource, reference_rows
from disback_plugin.lab.problems.prompts import PromptEncoder, of_text


class LatentsConfig(ProblemSettings):
    """Latents in an LMDB (`disback data lmdb`, or DMD2's own): its prompts are trained on.

    Samples are judged against its latents, real images, and not against the teacher's.
    """

    kind: Literal["latents"] = "latents"
    lmdb: Path

    metric_names: ClassVar = ("energy_distance",)

    def _load(self, teacher: TeacherSource | None) -> "LatentsProblem":
        teacher, latents = of_text(teacher, self.kind), LatentLMDB(self.lmdb)
        return LatentsProblem(
            data_shape=latents.data_shape,
            num_classes=len(latents),
            dataset=latents,
            condition=PromptEncoder(LatentPrompts(latents), teacher.spec, teacher.options),
        )


class LatentPrompts(Sequence[str]):
    """The prompts of an LMDB, each read when it is asked for."""

    def __init__(self, latents: LatentLMDB) -> None:
        self._latents = latents

    def __len__(self) -> int:
        return len(self._latents)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self._latents.prompts(range(len(self))[index])
        return self._latents.prompts([range(len(self))[index]])[0]


@dataclass(frozen=True, kw_only=True)
class LatentsProblem(Problem):
    """Labels number the prompts."""

    kind = "latents"
    takes_text = True
    dataset: LatentLMDB

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "LatentsEvaluator":
        latents, _ = self.dataset.batch(num_samples, reference_rows())
        return LatentsEvaluator(latents)


class LatentsEvaluator:
    """energy_distance to real latents (m, C, H, W)."""

    def __init__(self, data: Tensor) -> None:
        self.data = data

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, self.data)}
