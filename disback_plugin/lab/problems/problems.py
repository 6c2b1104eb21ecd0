"""What is to be learned: data, labels or prompts, and how samples are judged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from disback_plugin.diffusion import Condition, Description
from disback_plugin.errors import ConfigError, count
from disback_plugin.lab.config.networks import (
    DigitsConfig,
    GaussiansConfig,
    ImagesConfig,
    ProblemConfig,
    PromptsConfig,
)
from disback_plugin.lab.data import (
    DataSet,
    GaussianMixture,
    ImageLMDB,
    SampleSource,
    digits_dataset,
    load_prompts,
    mixture_dataset,
    random_mixture,
)
from disback_plugin.lab.metrics import ClassifierSettings, digit_classifier, image_classifier
from disback_plugin.lab.noise import generator
from disback_plugin.lab.problems.base import TeacherSource
from disback_plugin.lab.problems.evaluator import DigitsEvaluator, Evaluator, GaussiansEvaluator
from disback_plugin.lab.problems.image_evaluators import ImagesEvaluator, SamplesEvaluator
from disback_plugin.lab.problems.prompt_encoder import PromptEncoder

NUM_REFERENCE = 10_000  # images that the samples' distance is measured to


class Conditioner(Protocol):
    """Labels (B,) int64 on the CPU -> the condition that the networks are given, on `device`."""

    def __call__(self, labels: Tensor | None, device: torch.device) -> Condition | None: ...


def as_they_are(labels: Tensor | None, device: torch.device) -> Tensor | None:
    """Class labels are the condition itself."""
    return None if labels is None else labels.to(device)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """data_shape: of one sample. num_classes: what labels number, classes or prompts; 0: none.

    dataset: None where there is nothing but prompts. condition: from labels to what networks take.
    """

    kind: str
    data_shape: tuple[int, ...]
    num_classes: int
    dataset: SampleSource[Tensor | None] | None = None
    mixture: GaussianMixture | None = None
    condition: Conditioner = as_they_are
    classifier: ClassifierSettings | None = None


def make_problem(config: ProblemConfig, teacher: TeacherSource | None = None) -> Problem:
    """The problem that the settings name; `teacher`: where one that is a checkpoint comes from.

    Raises ConfigError where teacher and data do not fit each other.
    """
    if isinstance(config, PromptsConfig):
        problem = _prompts(config, teacher)
    elif isinstance(config, GaussiansConfig):
        mixture = _mixture(config)
        data = mixture_dataset(mixture, seed=config.seed)
        problem = Problem(
            kind="gaussians",
            data_shape=data.data_shape,
            num_classes=0,
            dataset=data,
            mixture=mixture,
        )
    elif isinstance(config, ImagesConfig):
        problem = _images(config, teacher)
    else:
        problem = _digits(config)
    if teacher is not None:
        _check_teacher(problem, teacher.description)
    return problem


def make_evaluator(
    problem: Problem,
    num_samples: int,
    teacher_folder: Path,
    device: torch.device | str = "cpu",
) -> Evaluator:
    """The problem's metrics.

    teacher_folder: keeps the classifier for other processes; where there is no data, the teacher's
    samples in it are what is compared with. device: of an image problem's classifier.
    """
    mixture, data = problem.mixture, problem.dataset
    if data is None:
        return SamplesEvaluator(teacher_folder / "samples.safetensors")
    rows = generator(0, 0, "evaluation/data")
    if mixture is not None:
        points, _ = mixture.sample(num_samples, rows)
        return GaussiansEvaluator(points, mixture.means, mixture.std, mixture.weights)
    if problem.kind == "digits":
        return DigitsEvaluator(digits_dataset().samples, digit_classifier(teacher_folder))
    classifier = None
    if problem.classifier is not None:
        assert isinstance(data, DataSet)
        assert data.labels is not None
        classifier = image_classifier(
            data.samples, data.labels, problem.classifier, teacher_folder, device
        )
    return ImagesEvaluator(data.batch(min(NUM_REFERENCE, len(data)), rows)[0], classifier)


def _prompts(config: PromptsConfig, teacher: TeacherSource | None) -> Problem:
    if teacher is None or teacher.description.condition != "text":
        raise ConfigError(
            "problem kind 'prompts' needs a teacher that takes text: teacher: diffusers:REPO_OR_DIR"
        )
    prompts = load_prompts(
        config.file, column=config.column, split=config.split, trust_pickle=config.trust_pickle
    )
    return Problem(
        kind="prompts",
        data_shape=teacher.description.data_shape,
        num_classes=len(prompts),
        condition=PromptEncoder(prompts, teacher.spec, teacher.options),
    )


def _images(config: ImagesConfig, teacher: TeacherSource | None) -> Problem:
    images = ImageLMDB(config.lmdb)
    if teacher is not None:
        labelled = config.conditional is not False
        # the teacher's classes: the data may have no labels, or lack the last ones
        num_classes = teacher.description.num_classes if labelled else 0
    else:
        num_classes = images.num_classes if config.conditional else 0
    if config.classifier is not None and images.labels is None:
        raise ConfigError(f"problem.classifier needs labels, which {config.lmdb} does not have")
    return Problem(
        kind="images",
        data_shape=images.data_shape,
        num_classes=num_classes,
        dataset=images.load() if config.in_memory else images,
        classifier=config.classifier,
    )


def _digits(config: DigitsConfig) -> Problem:
    data = digits_dataset()
    num_classes = data.num_classes if config.conditional else 0
    return Problem(kind="digits", data_shape=data.data_shape, num_classes=num_classes, dataset=data)


def _mixture(config: GaussiansConfig) -> GaussianMixture:
    if config.means is None:
        return random_mixture(config.num_components, config.std, config.extent, config.seed)
    means = torch.tensor(config.means)
    weights = torch.tensor(config.weights or [1.0] * len(means))
    return GaussianMixture(weights=weights / weights.sum(), means=means, std=config.std)


def _check_teacher(problem: Problem, teacher: Description) -> None:
    """Both are of text or neither, with equal shapes, and classes where both have some."""
    takes_text, has_text = teacher.condition == "text", problem.kind == "prompts"
    if takes_text != has_text:
        raise ConfigError(
            f"a teacher that takes text needs problem kind 'prompts', not {problem.kind!r}"
        )
    if problem.data_shape != teacher.data_shape:
        raise ConfigError(
            f"the data has shape {problem.data_shape}, the teacher's samples {teacher.data_shape}"
        )
    if not has_text and problem.num_classes not in (0, teacher.num_classes):
        classes = count(problem.num_classes, "class", "classes")
        raise ConfigError(f"the problem has {classes}, the teacher {teacher.num_classes}")
