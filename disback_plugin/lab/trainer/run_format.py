"""`run:DIR` and `safetensors:FILE`: what this package wrote itself."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from disback_plugin.diffusion import Denoiser, OneStepStudent
from disback_plugin.errors import CheckpointError, ConfigError, RunError
from disback_plugin.files import read_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.results.run_file import REFERENCE, RUN, check_teacher, read_run_file
from disback_plugin.lab.trainer.experiment import WEIGHTS
from disback_plugin.lab.trainer.run_folder import (
    CONFIG,
    STUDENT,
    check_own_teacher,
    is_complete,
    read_config,
)
from disback_plugin.lab.trainer.shared_roles import fused_student, trained_lora
from disback_plugin.lab.trainer.teacher_files import load_again, read_header, read_teacher
from disback_plugin.pretrained import describe, load_decoder, load_text_encoder
from disback_plugin.pretrained.edm.opening import described, load_edm_safetensors
from disback_plugin.pretrained.formats import TextEncoder, register_format, take_options
from disback_plugin.pretrained.weights.lora import TrainedLoRA
from disback_plugin.tensors import load_weights, under


@register_format("safetensors")
def open_safetensors(location: str, options: Mapping[str, Any]) -> Denoiser:
    """A file of `disback convert`, or a run's teacher.safetensors; its header says which."""
    take_options(options, "safetensors", {})
    kind = read_header(Path(location)).get("format")
    if kind == "edm":
        return described(load_edm_safetensors(location), "safetensors")
    if kind == "teacher":
        return read_teacher(Path(location))
    raise CheckpointError(
        f"{location} does not tell what network it is for: it was written neither by `disback "
        "convert` nor as the teacher of a run. Weights of diffusers are read from their folder: "
        "diffusers:DIR"
    )


def open_text_encoder(location: str, options: Mapping[str, Any]) -> TextEncoder:
    """That of the checkpoint which the teacher of an experiment, or of one of its runs, came from.

    The experiment has the options of that checkpoint; of those of the run only `text_dtype` matters
    to it, which counts before the experiment's.
    """
    checkpoint, own = _teachers_checkpoint(location, "text encoder")
    told = {name: value for name, value in options.items() if name == "text_dtype"}
    return load_text_encoder(checkpoint, **{**own, **told})


def open_decoder(location: str, options: Mapping[str, Any]) -> nn.Module:
    """The VAE's, of the same checkpoint."""
    checkpoint, options = _teachers_checkpoint(location, "VAE")
    return load_decoder(checkpoint, **options)


def _teachers_checkpoint(location: str, part: str) -> tuple[str, Mapping[str, Any]]:
    folder = Path(location).absolute()
    out = folder if (folder / CONFIG).is_file() else folder.parents[1]
    teacher = read_config(out).teacher
    if teacher.checkpoint is None:
        raise ConfigError(f"the teacher of {out} was trained there: it has no {part}")
    return teacher.checkpoint, teacher.options


@register_format("run", text_encoder=open_text_encoder, decoder=open_decoder)
def open_run(location: str, options: Mapping[str, Any]) -> Denoiser:
    """The teacher of an experiment (its folder), or the student of one of its runs (runs/NAME).

    A student is the denoiser inside it: ask it at the noise level that it was trained at. `weights`
    picks its averaged (`ema`) or its last (`raw`) weights.
    """
    folder = Path(location).absolute()
    if (folder / CONFIG).is_file():
        take_options(options, "run", {})
        return _teacher(folder)
    return open_student(location, options).denoiser


def open_student(location: str, options: Mapping[str, Any]) -> OneStepStudent:
    """The student of a complete run, runs/NAME, as it was trained to be asked."""
    folder = Path(location).absolute()
    if not (folder / RUN).is_file() or not (folder.parents[1] / CONFIG).is_file():
        raise CheckpointError(
            f"{location} is neither an experiment's folder ({CONFIG} is missing) nor one of its "
            "runs, runs/ARM-seedN"
        )
    weights = take_options(options, "run", {"weights": "ema"})["weights"]
    if weights not in ("ema", "raw"):
        raise ConfigError(f"option 'weights' of a run is 'ema' or 'raw', not {weights!r}")
    return _student(folder, weights)


def _teacher(out: Path) -> Denoiser:
    config, folder = read_config(out), out / "teacher"
    if not (folder / REFERENCE).is_file():
        raise CheckpointError(
            f"{out} has no finished teacher yet: let the command go on that began it"
        )
    check_teacher(folder)
    check_own_teacher(out, folder / REFERENCE)
    if config.teacher.checkpoint is None:
        teacher = read_teacher(folder / WEIGHTS)
        weights = "averaged weights of teacher/teacher.safetensors"
        if config.teacher.training is None:
            weights = f"weights of {config.teacher.file}"
    else:
        teacher, _ = load_again(config.teacher, folder)
        weights = config.teacher.checkpoint
    found = describe(teacher)
    teacher.description = replace(found, source="run", role=f"the teacher, {weights}")
    return teacher


def _student(folder: Path, weights: str) -> OneStepStudent:
    out = folder.parents[1]
    config = read_config(out)
    if config.student.kind != "denoiser":
        raise CheckpointError(f"the student in {folder} is a generator z -> x0, no denoiser")
    if not is_complete(folder):
        raise CheckpointError(
            f"the run in {folder} is not complete yet: let `disback run --resume` end it"
        )
    teacher = _teacher(out)
    found = describe(teacher)
    file = folder / STUDENT
    tensors = _read_student(folder, weights)
    student = filled_student(config, teacher, found.data_shape, tensors, str(file))
    assert isinstance(student, OneStepStudent)
    denoiser = student.denoiser
    kind = "averaged (ema)" if weights == "ema" else "last (raw)"
    where = f"{folder.relative_to(out)}/{file.name}"
    denoiser.description = replace(
        found,
        num_parameters=sum(value.numel() for value in denoiser.parameters()),
        sigma_min=denoiser.sigma_min,
        sigma_max=denoiser.sigma_max,
        role=f"the student, asked once at sigma {student.sigma:.4g}, {kind} weights of {where}",
    )
    return student


def filled_student(
    config: ExperimentConfig,
    teacher: Denoiser,
    data_shape: Sequence[int],
    tensors: dict[str, Tensor],
    source: str,
) -> nn.Module:
    """The student of these settings that has these tensors; a LoRA is added into `teacher`."""
    if config.lora is not None:
        return fused_student(config, teacher, tensors, source)
    student = config.student.make(teacher, data_shape, seed=0)
    load_weights(student, tensors, source)
    return student


def lora_of_run(location: str, options: Mapping[str, Any]) -> TrainedLoRA | None:
    """What a run's student adds to its base; None where it is no LoRA."""
    folder = Path(location).absolute()
    settings = read_config(folder.parents[1]).lora
    if settings is None:
        return None
    return trained_lora(settings, _read_student(folder, options.get("weights", "ema")))


def _read_student(folder: Path, weights: str) -> dict[str, Tensor]:
    """The student's `ema` or `raw` tensors in a run's folder; its factors, where it is a LoRA."""
    read_run_file(folder).check(folder, STUDENT)
    return under(f"{weights}.", read_tensors(folder / STUDENT, RunError)[0])
