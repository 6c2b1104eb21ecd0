"""How far a run is, from the files that it writes: read as they are, without any lock."""

import json
import math
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from disback_plugin.lab.results.run_file import REFERENCE, read_run_file
from disback_plugin.lab.results.runs import METRICS, run_folders
from disback_plugin.lab.results.writer import writer_of
from disback_plugin.plain_yaml import parse_yaml

TAIL = 1 << 18  # bytes of metrics.jsonl that are read, from its end: some hundred lines
LINES = 20  # train lines over which the speed is taken
State = Literal["complete", "running", "died", "stopped", "elsewhere"]
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run, or the training of a teacher, is. Seconds and speed are of training alone.

    step: of the last line that it wrote. checkpoint: the step from which a resume goes on.
    train, evaluation: the last line of each kind. age: seconds since its last line.
    """

    name: str
    state: State
    step: int
    num_steps: int
    batch_size: int | None = None
    checkpoint: int | None = None
    train: Line = field(default_factory=dict)
    evaluation: Line = field(default_factory=dict)
    steps_per_second: float | None = None
    age: float | None = None

    @property
    def images_per_second(self) -> float | None:
        """Samples of the student's batches in a second; None where that is not known."""
        if self.steps_per_second is None or self.batch_size is None:
            return None
        return self.steps_per_second * self.batch_size

    @property
    def seconds_left(self) -> float | None:
        """At the speed of the last lines, without evaluations; None where there is no speed."""
        if not self.steps_per_second:
            return None
        return (self.num_steps - self.step) / self.steps_per_second


def read_statuses(path: Path, now: float) -> list[Status]:
    """Of the teacher, if it is trained there, and of every run; by name. now: seconds since 1970.

    path: an experiment's folder or one run's; RunError where neither is there, or damaged.
    """
    teacher = path / "teacher"
    statuses = []
    if (teacher / METRICS).is_file():
        statuses.append(_of_teacher(teacher, now))
    if statuses and not (path / "runs").is_dir():
        return statuses
    return statuses + [_of_run(folder, now) for folder in run_folders([path])]


def duration(seconds: float) -> str:
    """`0:02:05`, `1 day, 3:00:00`."""
    return str(timedelta(seconds=round(seconds)))


def _of_teacher(folder: Path, now: float) -> Status:
    training = _settings(folder.parent).get("teacher", {}).get("training") or {}
    complete = os.path.lexists(folder / REFERENCE)
    num_steps, batch_size = training.get("num_steps", 0), training.get("batch_size")
    return _status(folder, "teacher", complete, num_steps, batch_size, now)


def _of_run(folder: Path, now: float) -> Status:
    said = read_run_file(folder)
    batch_size = _settings(folder.parent.parent).get("distill", {}).get("batch_size")
    name = f"{said.arm}-seed{said.seed}"
    return _status(folder, name, said.complete, said.num_steps, batch_size, now)


def _status(
    folder: Path, name: str, complete: bool, num_steps: int, batch_size: int | None, now: float
) -> Status:
    lines, age = _tail(folder / METRICS, now)
    train = [line for line in lines if line.get("kind") == "train"]
    evaluations = [line for line in lines if line.get("kind") == "eval"]
    return Status(
        name=name,
        state="complete" if complete else _state(folder),
        step=num_steps if complete else max((line["step"] for line in lines), default=0),
        num_steps=num_steps,
        batch_size=batch_size,
        checkpoint=_checkpoint(folder),
        train=train[-1] if train else {},
        evaluation=evaluations[-1] if evaluations else {},
        steps_per_second=_speed(train[-LINES:]),
        age=age,
    )


def _state(folder: Path) -> State:
    names: dict[str, State] = {"alive": "running", "dead": "died", "elsewhere": "elsewhere"}
    return names.get(writer_of(folder), "stopped")


def _speed(train: list[Line]) -> float | None:
    if len(train) < 2:
        return None
    steps = train[-1]["step"] - train[0]["step"]
    seconds = train[-1]["seconds"] - train[0]["seconds"]
    return steps / seconds if steps > 0 and seconds > 0 else None


def _tail(file: Path, now: float) -> tuple[list[Line], float | None]:
    """The last whole lines, and how old the file is; one that is being written is left out."""
    try:
        with file.open("rb") as stream:
            told = os.fstat(stream.fileno())
            start = max(told.st_size - TAIL, 0)
            stream.seek(start)
            pieces = stream.read(TAIL).split(b"\n")
    except FileNotFoundError:
        return [], None
    whole = pieces[1 if start else 0 : -1]
    return [line for line in map(_line, whole) if line], max(now - told.st_mtime, 0.0)


def _line(text: bytes) -> Line:
    """Nothing where it is none of a run's: what is damaged is for `disback report` to tell."""
    try:
        line = json.loads(text)
        return line if math.isfinite(line["step"] + line["seconds"]) else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _checkpoint(folder: Path) -> int | None:
    names = [file.name[len("step_") :] for file in folder.glob("checkpoints/step_*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def _settings(out: Path) -> dict[str, Any]:
    """The experiment's settings; nothing where it was moved away from them."""
    try:
        text = (out / "config.yaml").read_text(encoding="utf-8")
    except OSError:
        return {}
    settings = parse_yaml(text, str(out / "config.yaml"))
    return settings if isinstance(settings, dict) else {}
