"""How far a run is, from the files that it writes: read as they are, without any lock."""

import json
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from disback_plugin.errors import RunError
from disback_plugin.lab.results.run_file import REFERENCE, read_run_file
from disback_plugin.lab.results.runs import METRICS, checked, run_folders
from disback_plugin.lab.results.writer import writer_of
from disback_plugin.plain_yaml import parse_yaml
from disback_plugin.sealed import damage_of

TAIL = 1 << 18  # bytes of metrics.jsonl that are read, from its end: some hundred lines
LINES = 20  # train lines over which the speed is taken
State = Literal["complete", "running", "died", "stopped", "elsewhere", "unreadable"]
Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a run, or the training of a teacher, is. Seconds and speed are of training alone.

    step: of the last line that it wrote. checkpoint: the step from which a resume goes on.
    train, evaluation: the last line of each kind. age: seconds since its last line. problem: why
    it is unreadable.
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
    problem: str = ""

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
        return max(self.num_steps - self.step, 0) / self.steps_per_second


def read_statuses(path: Path, now: float) -> list[Status]:
    """Of the teacher, if it is trained there, and of every run; by name. now: seconds since 1970.

    path: an experiment's folder or one run's. RunError where neither is there, or what is asked for
    alone is damaged; among others that one is `unreadable`.
    """
    teacher, statuses = path / "teacher", []
    if (teacher / METRICS).is_file():
        statuses.append(_of_teacher(teacher, now))
    if statuses and not (path / "runs").is_dir():
        return statuses
    folders = run_folders([path])
    settings = {out: _settings(out) for out in {folder.parent.parent for folder in folders}}
    for folder in folders:
        try:
            statuses.append(_of_run(folder, settings[folder.parent.parent], now))
        except RunError as error:
            if len(folders) == 1:
                raise
            problem = str(error)
            statuses.append(
                Status(name=folder.name, state="unreadable", step=0, num_steps=0, problem=problem)
            )
    return statuses


def duration(seconds: float) -> str:
    """`0:02:05`, `1 day, 3:00:00`."""
    return str(timedelta(seconds=round(seconds)))


def _of_teacher(folder: Path, now: float) -> Status:
    settings, complete = _settings(folder.parent), os.path.lexists(folder / REFERENCE)
    num_steps = _setting(settings, "teacher", "training", "num_steps") or 0
    batch_size = _setting(settings, "teacher", "training", "batch_size")
    return _status(folder, "teacher", complete, num_steps, batch_size, now)


def _of_run(folder: Path, settings: object, now: float) -> Status:
    said = read_run_file(folder)
    batch_size = _setting(settings, "distill", "batch_size")
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
        with damage_of(file, RunError), file.open("rb") as stream:
            told = os.fstat(stream.fileno())
            start = max(told.st_size - TAIL, 0)
            stream.seek(start)
            pieces = stream.read(TAIL).split(b"\n")
    except RunError:
        if os.path.lexists(file):
            raise
        return [], None
    whole = pieces[1 if start else 0 : -1]
    return [line for line in map(_line, whole) if line], max(now - told.st_mtime, 0.0)


def _line(text: bytes) -> Line:
    """Nothing where it is none of a run's: what is damaged is for `disback report` to tell."""
    try:
        line = checked(json.loads(text))
        return line if "seconds" in line else {}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}


def _checkpoint(folder: Path) -> int | None:
    names = [file.name[len("step_") :] for file in folder.glob("checkpoints/step_*")]
    return max((int(name) for name in names if name.isdecimal()), default=None)


def _setting(settings: object, *names: str) -> int | None:
    """A whole number of an experiment's settings; None where there is none."""
    for name in names:
        settings = settings.get(name) if isinstance(settings, dict) else None
    return settings if isinstance(settings, int) else None


def _settings(out: Path) -> object:
    """The experiment's settings; None where it was moved away from them."""
    try:
        text = (out / "config.yaml").read_text(encoding="utf-8")
    except OSError:
        return None
    return parse_yaml(text, str(out / "config.yaml"))
