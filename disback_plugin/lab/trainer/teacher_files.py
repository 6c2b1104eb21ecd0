"""Teachers on disk: a trained one's weights, and where one that is a checkpoint comes from.

Of a checkpoint the run folder keeps spec and fingerprint, not a copy: the file is somebody's
release of up to ten gigabytes, every process would read the copy as slowly, and a fingerprint tells
as surely that it is still the same teacher. A trained teacher's file tells in its header how to
build the network again.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from torch import nn

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import CheckpointError, RunError
from disback_plugin.files import read_metadata, read_tensors, write_json
from disback_plugin.lab.config.experiment import ExperimentConfig, TeacherConfig
from disback_plugin.lab.config.networks import DenoiserConfig, NetworkConfig, make_teacher
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.problems.base import TeacherSource
from disback_plugin.lab.results.run_file import ANEW
from disback_plugin.path.reference import tensor_hash
from disback_plugin.pretrained import describe, load_denoiser
from disback_plugin.pretrained.edm.checkpoint import HEADER
from disback_plugin.pretrained.spec import split_spec
from disback_plugin.sealed import damage_of, read_json
from disback_plugin.tensors import load_weights

FILE = "source.json"


def check_checkpoints(config: ExperimentConfig) -> None:
    """Raise what `load_denoiser` would for a file that is missing or of another kind.

    Before anything is written: a misspelt file leaves no folder behind.
    """
    for spec in (config.teacher.checkpoint, getattr(config.student, "checkpoint", None)):
        if spec is not None:
            split_spec(spec)


def load_source(config: TeacherConfig) -> tuple[Denoiser, TeacherSource]:
    """The teacher that the settings name, and what to remember of it."""
    assert config.checkpoint is not None
    teacher = load_denoiser(config.checkpoint, **config.options)
    return teacher, TeacherSource(
        spec=config.checkpoint,
        options=config.options,
        fingerprint=fingerprint(teacher),
        description=describe(teacher),
    )


def write_source(folder: Path, source: TeacherSource) -> None:
    """Remember the teacher's source in the run's teacher folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, asdict(source))


def read_source(folder: Path) -> TeacherSource | None:
    """What `write_source` wrote; None where the teacher is no checkpoint, or not there yet."""
    if not (folder / FILE).is_file():
        return None
    said = read_json(folder / FILE, RunError, ANEW)
    with damage_of(folder / FILE, RunError, ANEW):
        shape = tuple(said["description"].pop("data_shape"))
        description = Description(data_shape=shape, **said.pop("description"))
        return TeacherSource(description=description, **said)


def load_again(config: TeacherConfig, folder: Path) -> tuple[Denoiser, TeacherSource]:
    """As `load_source`; RunError where it is not the teacher whose source is in `folder`."""
    teacher, now = load_source(config)
    before = read_source(folder)
    if before is None:
        raise RunError(f"{folder / FILE} is missing; {ANEW}")
    if now.fingerprint != before.fingerprint:
        raise RunError(
            f"{now.spec} is not the teacher that {folder.parent} was started with: its weights have"
            f" the fingerprint {now.fingerprint[:16]}, not {before.fingerprint[:16]}. Put the file"
            " back, or start anew in another folder"
        )
    return teacher, now


def fingerprint(module: nn.Module) -> str:
    """One hex SHA-256 over the names, dtypes, shapes and bytes of all tensors."""
    tensors = sorted(module.state_dict().items())
    lines = "\n".join(f"{name} {tensor_hash(value)}" for name, value in tensors)
    return hashlib.sha256(lines.encode()).hexdigest()


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
    with damage_of(file, CheckpointError):
        return dict(json.loads(metadata.get(HEADER, "{}")))


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
