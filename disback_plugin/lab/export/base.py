"""The published checkpoint that a student began as: what an export takes beside the weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from disback_plugin.diffusion import FlowDenoiser, VPDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.students import DenoiserStudentConfig
from disback_plugin.lab.sampling import Student
from disback_plugin.lab.trainer.run_folder import read_config
from disback_plugin.pretrained.spec import split_spec
from disback_plugin.pretrained.weights.opening import base_of


@dataclass(frozen=True)
class Base:
    """kind: of a spec; `run` where the student's network was made in an experiment."""

    kind: str
    location: str
    options: dict[str, Any]

    @property
    def hub(self) -> dict[str, Any]:
        """What diffusers' from_pretrained is told besides the location."""
        return {name: self.options.get(name) for name in ("variant", "revision")}


def base_of_student(student: Student) -> Base:
    """Through runs and bare weights to the checkpoint below them."""
    kind, location = split_spec(student.spec)
    options = dict(student.options)
    while kind in ("weights", "run"):
        if kind == "weights":
            spec, _, options = base_of(location, options)
        else:
            out = Path(location).absolute().parents[1]
            config = read_config(out)
            own, teacher = config.student, config.teacher
            assert isinstance(own, DenoiserStudentConfig)
            if own.checkpoint is not None:
                spec, options = own.checkpoint, dict(own.options)
            elif teacher.checkpoint is not None:
                spec, options = teacher.checkpoint, dict(teacher.options)
            else:
                return Base("run", str(out), {})
        kind, location = split_spec(spec)
    return Base(kind, location, options)


def timestep_of(student: Student) -> int:
    """The whole timestep that a student of a VP model is asked at; ConfigError for none."""
    denoiser, sigma = student.denoiser, student.generator.sigma
    assert isinstance(denoiser, VPDenoiser)
    asked = torch.tensor([sigma], dtype=torch.float64)
    t = denoiser.schedule.t_of_sigma(asked).round()
    there = min(float(denoiser.schedule.sigma_of_t(t)), denoiser.sigma_max)
    if abs(there - sigma) > 1e-6 * sigma:
        raise ConfigError(
            f"the student is asked at sigma {sigma}, between two timesteps: diffusers asks at "
            "whole ones"
        )
    return int(t)


def noise_factor(student: Student) -> float:
    """What standard normal noise is multiplied by before diffusers' network is given it."""
    denoiser, asked = student.denoiser, student.generator
    assert isinstance(denoiser, VPDenoiser | FlowDenoiser)
    return asked.scale / denoiser.unit_noise(asked.sigma)
