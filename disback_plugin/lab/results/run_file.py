"""What says that a folder is whose: run.json of a run, reference.json of a finished teacher."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import ConfigError, RunError
from disback_plugin.sealed import check_file, damage_of, fingerprints, read_sealed, write_sealed

RUN = "run.json"
REFERENCE = "reference.json"  # written last: a teacher with one is complete
AGAIN = "restore it, or delete the run's folder and run that arm and seed again"
ANEW = "restore it, or start anew in another folder: every run here starts from this teacher"

# printed in a terminal, and part of the names of files
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class RunFile(StrictModel):
    """run.json. files: sizes and digests of what a complete run left; none in earlier versions."""

    experiment: Name
    arm: Name
    seed: int
    num_steps: int
    primary: Name
    thresholds: tuple[FiniteFloat, ...]
    status: Literal["running", "complete"]
    files: dict[str, Any] = Field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.status == "complete"

    def check(self, folder: Path, name: str) -> None:
        """Raise RunError unless the file is what it was when the run was complete."""
        check_file(folder, name, self.files, RunError, AGAIN)


def read_run_file(folder: Path) -> RunFile:
    """The run.json in `folder`; RunError where it is missing, damaged or of something else."""
    file = folder / RUN
    data = read_sealed(file, RunError, AGAIN)
    try:
        return parse_settings(RunFile, data, str(file))
    except ConfigError as error:
        raise RunError(
            f"{error}\n{file} is damaged, or was not written by `disback run`: {AGAIN}"
        ) from None


def write_reference(folder: Path, metrics: dict[str, float]) -> None:
    """Say how good the teacher in `folder` is, and which files are now its own."""
    names = [file.name for file in folder.glob("*.safetensors")]
    names += [file.name for file in folder.glob("source.json")]
    write_sealed(folder / REFERENCE, {**metrics, "files": fingerprints(folder, names)})


def read_reference(folder: Path) -> tuple[dict[str, float], dict[str, Any]]:
    """The teacher's metrics that are finite, and the files that were its own; RunError."""
    file = folder / REFERENCE
    data = read_sealed(file, RunError, ANEW)
    with damage_of(file, RunError, ANEW):
        files = dict(data.pop("files", {}))
        metrics = {name: float(value) for name, value in data.items() if value is not None}
    return {name: value for name, value in metrics.items() if math.isfinite(value)}, files


def check_teacher(folder: Path, *names: str) -> None:
    """Raise RunError where a file of the finished teacher, or one of `names`, has changed.

    What is missing is for those to say who need it.
    """
    _, files = read_reference(folder)
    for name in names or files:
        if (folder / Path(name).name).exists():
            check_file(folder, name, files, RunError, ANEW)
