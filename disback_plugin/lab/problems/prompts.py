"""Prompts alone: what is to be drawn is what a teacher that takes text draws for them."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import load_prompts
from disback_plugin.lab.metrics import energy_distance
from disback_plugin.lab.problems.base import Problem, ProblemSettings, TeacherSource
from disback_plugin.lab.problems.prompt_encoder import PromptEncoder


class PromptsConfig(ProblemSettings):
    """Prompts alone, for a teacher that takes text; judged against the teacher's own samples.

    `column`, `split`: of a table or a data set; `trust_pickle`: read a .pkl (nothing in it is run).
    """

    kind: Literal["prompts"] = "prompts"
    file: str
    column: str | None = None
    split: str | None = None
    trust_pickle: bool = False

    metric_names: ClassVar = ("energy_distance",)

    def _load(self, teacher: TeacherSource | None) -> "PromptsProblem":
        if teacher is None or teacher.description.condition != "text":
            raise ConfigError(
                "problem kind 'prompts' needs a teacher that takes text: "
                "teacher: diffusers:REPO_OR_DIR"
            )
        prompts = load_prompts(
            self.file, column=self.column, split=self.split, trust_pickle=self.trust_pickle
        )
        return PromptsProblem(
            data_shape=teacher.description.data_shape,
            num_classes=len(prompts),
            condition=PromptEncoder(prompts, teacher.spec, teacher.options),
        )


@dataclass(frozen=True, kw_only=True)
class PromptsProblem(Problem):
    """No data; labels number the prompts."""

    kind = "prompts"

    def evaluator(
        self, num_samples: int, folder: Path, device: torch.device | str = "cpu"
    ) -> "SamplesEvaluator":
        return SamplesEvaluator(folder / "samples.safetensors")


class SamplesEvaluator:
    """energy_distance to the samples in a file, which need not be there before the first call.

    The file holds the teacher's multi-step samples.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, load_file(self.file)["samples"])}
