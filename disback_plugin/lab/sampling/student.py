"""Which student is sampled, and how it is asked: what its source says, or else the user."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.diffusion import (
    ConsistencyDenoiser,
    Denoiser,
    FlowDenoiser,
    LCMDenoiser,
    OneStepStudent,
    PreconditionedDenoiser,
    VPDenoiser,
)
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.config.students import DenoiserStudentConfig, InputNoise
from disback_plugin.lab.trainer.run_folder import CONFIG, read_config
from disback_plugin.lab.trainer.run_format import open_student as open_run_student
from disback_plugin.pretrained import describe, load_denoiser
from disback_plugin.pretrained.edm import Precond
from disback_plugin.pretrained.spec import split_spec
from disback_plugin.sealed import read_sealed

STATEMENT = "student.json"  # beside exported weights: how the student in them is asked
Precision = Literal["fp16", "bf16"]
_USUAL = (
    "--sigma 80 (DMD2 on EDM, consistency models) or 1.0 (Diff-Instruct), --timestep 399 or 999 "
    "(DMD2 on SDXL, on Stable Diffusion and flows)"
)


class Asked(StrictModel):
    """The noise level of the one step; what is None is for the source to say."""

    sigma: float | None = None
    timestep: int | None = None
    noise: InputNoise | None = None


class StatedOptions(StrictModel):
    """Options that decide images and that neither weights nor their config say; None: not said."""

    embedded_guidance: float | None = None
    max_sequence_length: int | None = None
    sample_size: tuple[int, ...] | None = None


class Statement(StrictModel):
    """student.json. files: those beside it that it speaks of."""

    format: Literal["disback student"] = "disback student"
    files: tuple[str, ...]
    asked: Asked
    options: StatedOptions = StatedOptions()


@dataclass(frozen=True)
class Student:
    """A one-step student, where it comes from, and how it is asked."""

    spec: str
    options: Mapping[str, Any]
    generator: OneStepStudent
    timestep: int | None
    noise: InputNoise

    @property
    def denoiser(self) -> Denoiser:
        """The network with its scalings."""
        return self.generator.denoiser

    @property
    def takes_text(self) -> bool:
        """Whether it is told prompts; its samples are then a VAE's latents."""
        return describe(self.denoiser).condition == "text"

    @property
    def asked(self) -> Asked:
        """As a statement says it: a timestep where it has one."""
        sigma = None if self.timestep is not None else self.generator.sigma
        return Asked(sigma=sigma, timestep=self.timestep, noise=self.noise)


def open_student(spec: str, options: Mapping[str, Any], asked: Asked | None = None) -> Student:
    """The student of `kind:LOCATION` with its options, in eval mode, on the CPU.

    A run, a consistency model, an LCM and an exported student say how they are asked; of others
    `asked` must. What an export says of its options counts where they are not given. Raises
    ConfigError where nobody says the noise level, or a run is to be asked otherwise.
    """
    asked = asked or Asked()
    kind, location = split_spec(_without_suffix(spec))
    if kind == "run":
        return _of_run(location, options, asked)
    stated = _stated(Path(location))
    if stated is not None:
        options = {**stated.options.model_dump(mode="json", exclude_none=True), **options}
    denoiser = load_denoiser(f"{kind}:{location}", **options)
    config = _settings(denoiser, asked, None if stated is None else stated.asked, spec)
    generator = config.ask(denoiser).eval().requires_grad_(False)
    return Student(f"{kind}:{location}", options, generator, config.timestep, config.noise)


def _without_suffix(spec: str) -> str:
    """`run:RUN/student` and `run:RUN/student.safetensors` are `run:RUN`."""
    if not spec.startswith("run:"):
        return spec
    return spec.removesuffix("/").removesuffix(".safetensors").removesuffix("/student")


def _of_run(location: str, options: Mapping[str, Any], asked: Asked) -> Student:
    if asked != Asked():
        raise ConfigError(f"run:{location} knows how its student is asked: leave that out")
    folder = Path(location).absolute()
    if (folder / CONFIG).is_file():
        runs = sorted(file.parent.name for file in folder.glob("runs/*/run.json"))
        raise CheckpointError(
            f"{location} is an experiment: give one of its runs, run:{location}/runs/NAME "
            f"({', '.join(runs) or 'there are none yet'})"
        )
    generator = open_run_student(location, options).eval().requires_grad_(False)
    settings = read_config(folder.parents[1]).student
    assert isinstance(settings, DenoiserStudentConfig)
    return Student(f"run:{location}", options, generator, settings.timestep, settings.noise)


def _stated(location: Path) -> Statement | None:
    """What an export says of itself; None where nothing is said."""
    folder = location if location.is_dir() else location.parent
    file = folder / STATEMENT
    if not file.is_file():
        return None
    said = parse_settings(Statement, read_sealed(file, CheckpointError), str(file))
    return said if folder == location or location.name in said.files else None


def _settings(
    denoiser: Denoiser, asked: Asked, stated: Asked | None, spec: str
) -> DenoiserStudentConfig:
    """The user's words before the source's own."""
    level = {"sigma": asked.sigma, "timestep": asked.timestep}
    if stated is not None and level == {"sigma": None, "timestep": None}:
        level = {"sigma": stated.sigma, "timestep": stated.timestep}
    if level == {"sigma": None, "timestep": None}:
        if isinstance(denoiser, ConsistencyDenoiser):
            level["sigma"] = denoiser.sigma_max
        elif isinstance(denoiser, LCMDenoiser):
            level["timestep"] = denoiser.schedule.num_timesteps - 1
        else:
            raise ConfigError(
                f"{spec} does not tell at which noise level its student is asked: give {_USUAL}"
            )
    usual: InputNoise = "unit" if isinstance(denoiser, VPDenoiser | FlowDenoiser) else "sigma"
    noise = asked.noise or (stated and stated.noise) or usual
    return DenoiserStudentConfig(**level, noise=noise)


def set_precision(denoiser: Denoiser, precision: Precision | None) -> None:
    """Have the network compute in fewer bits; None: as its checkpoint says. ConfigError."""
    if precision is None:
        return
    if isinstance(denoiser, Precond):
        denoiser.precision = precision
    elif isinstance(denoiser, PreconditionedDenoiser):
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        denoiser.network.to(dtype)
    else:
        raise ConfigError(f"{type(denoiser).__name__} computes in its own precision only")
