"""A trained teacher's weights file: its header tells how to build the network again."""

import json
from pathlib import Path
from typing import Literal

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import CheckpointError, RunError
from disback_plugin.files import read_metadata, read_tensors
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.networks import DenoiserConfig, NetworkConfig, make_teacher
from disback_plugin.lab.problems import Problem
from disback_plugin.pretrained.edm.checkpoint import HEADER
from disback_plugin.tensors import load_weights


class TeacherHeader(StrictModel):
    """What the weights alone do not tell."""

    format: Literal["teacher"] = "teacher"
    denoiser: DenoiserConfig
    network: NetworkConfig
    data_shape: tuple[int, ...]
    num_classes: int


def teacher_metadata(config: ExperimentConfig, problem: Problem) -> dict[str, str]:
    """The header of the experiment's teacher.safetensors."""
    teacher = config.teacher
    assert teacher.denoiser is not None
    assert teacher.network is not None
    header = TeacherHeader(
        denoiser=teacher.denoiser,
        network=teacher.network,
        data_shape=problem.data_shape,
        num_classes=problem.num_classes,
    )
    return {HEADER: header.model_dump_json()}


def read_header(file: Path) -> dict[str, object]:
    """The header's `disback` entry as plain data, empty where there is none."""
    metadata = read_metadata(file, CheckpointError)
    try:
        return json.loads(metadata.get(HEADER, "{}"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{file} is no whole safetensors file: {error}") from None


def read_teacher(file: Path) -> Denoiser:
    """The teacher in a file that has such a header; CheckpointError, RunError."""
    header = parse_settings(TeacherHeader, read_header(file), str(file))
    shape, num_classes = header.data_shape, header.num_classes
    denoiser = make_teacher(header.denoiser, header.network, shape, num_classes, seed=0)
    load_weights(denoiser, read_tensors(file, RunError)[0], str(file))
    denoiser.description = Description.of(
        denoiser,
        source="safetensors",
        architecture=header.network.kind,
        data_shape=shape,
        num_classes=num_classes,
        parametrisation=header.denoiser.kind,
    )
    return denoiser
