"""A teacher that is a checkpoint: where it comes from, what it is, and that it stays the same.

The run folder keeps spec and fingerprint, not a copy: the file is somebody's release of up to ten
gigabytes, every run would read the copy as slowly, and a fingerprint tells as surely that it is
still the same teacher.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from torch import nn

from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import RunError
from disback_plugin.files import write_json
from disback_plugin.lab.config.experiment import ExperimentConfig, TeacherConfig
from disback_plugin.lab.problems import TeacherSource
from disback_plugin.path.reference import tensor_hash
from disback_plugin.pretrained import describe, load_denoiser
from disback_plugin.pretrained.spec import split_spec

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
    said = json.loads((folder / FILE).read_text(encoding="utf-8"))
    shape = tuple(said["description"].pop("data_shape"))
    description = Description(data_shape=shape, **said.pop("description"))
    return TeacherSource(description=description, **said)


def load_again(config: TeacherConfig, folder: Path) -> Denoiser:
    """The teacher whose source is in `folder`; RunError where the file holds another one now."""
    teacher, now = load_source(config)
    before = read_source(folder)
    assert before is not None, f"{folder / FILE} is written before any run starts"
    if now.fingerprint != before.fingerprint:
        raise RunError(
            f"{now.spec} is not the teacher that {folder.parent} was started with: its weights have"
            f" the fingerprint {now.fingerprint[:16]}, not {before.fingerprint[:16]}. Put the file"
            " back, or start anew in another folder"
        )
    return teacher


def fingerprint(module: nn.Module) -> str:
    """One hex SHA-256 over the names, dtypes, shapes and bytes of all tensors."""
    tensors = sorted(module.state_dict().items())
    lines = "\n".join(f"{name} {tensor_hash(value)}" for name, value in tensors)
    return hashlib.sha256(lines.encode()).hexdigest()
