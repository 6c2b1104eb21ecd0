"""Which results of `disback eval` speak of a student, for its model card."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from disback_plugin.errors import ConfigError
from disback_plugin.lab.results.evaluations import NAME, Evaluation, read_evaluation
from disback_plugin.lab.sampling import Student
from disback_plugin.lab.trainer.teacher_files import fingerprint
from disback_plugin.pretrained.spec import split_spec

_log = logging.getLogger("disback")


def results_of(student: Student, files: Sequence[Path] | None) -> list[Evaluation]:
    """Those in `files`; None: those in a run's folder, or beside a student's file, that are of it.

    Images tell by whom they were made where `disback sample` made them. Raises ConfigError where a
    named file is of another student, or of this one asked otherwise.
    """
    found: list[Evaluation] = []
    weights: str | None = None
    for file in _beside(student.spec) if files is None else files:
        result = read_evaluation(file)
        said = made_by(result)
        if said is not None:
            weights = weights or fingerprint(student.denoiser)
            if other := _difference(said, student, weights):
                if files is not None:
                    raise ConfigError(f"{file} is of {other}: its numbers are not this student's")
                _log.warning("%s is left out of the model card: it is of %s", file, other)
                continue
        found.append(result)
    return found


def made_by(result: Evaluation) -> dict[str, Any] | None:
    """What samples.json said of the student; None for images that do not tell."""
    student: Any = result.samples.get("said", {}).get("student") or {}
    return student if "sha256" in student else None


def _difference(said: dict[str, Any], student: Student, weights: str) -> str | None:
    if said["sha256"] != weights:
        return f"another student ({said['spec']}, SHA-256 {said['sha256'][:12]})"
    asked = (student.generator.sigma, student.timestep, student.noise)
    then = (said["sigma"], said["timestep"], said["noise"])
    return None if asked == then else f"this student asked at sigma {then[0]:g}, {then[2]} noise"


def _beside(spec: str) -> list[Path]:
    location = Path(split_spec(spec)[1])
    folder = location if location.is_dir() else location.parent
    return sorted(file for file in folder.glob(f"*.{NAME}*.json") if file.is_file())
