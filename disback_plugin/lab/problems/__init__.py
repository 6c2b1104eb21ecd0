"""Problems: what a student learns to draw, with its data and its evaluator; one file each."""

from typing import Annotated

from pydantic import Field

from disback_plugin.lab.problems.base import (
    Conditioner,
    Evaluator,
    Problem,
    TeacherSource,
    as_they_are,
)
from disback_plugin.lab.problems.digits import DigitsConfig
from disback_plugin.lab.problems.gaussians import GaussiansConfig
from disback_plugin.lab.problems.images import ImagesConfig
from disback_plugin.lab.problems.latents import LatentsConfig
from disback_plugin.lab.problems.prompts import PromptsConfig
from disback_plugin.lab.problems.teacher_alone import TeacherAloneConfig

ProblemConfig = Annotated[
    GaussiansConfig
    | DigitsConfig
    | ImagesConfig
    | LatentsConfig
    | PromptsConfig
    | TeacherAloneConfig,
    Field(discriminator="kind"),
]
