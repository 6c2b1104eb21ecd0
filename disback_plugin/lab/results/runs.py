"""Reads run folders: one training of one arm with one seed."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.lab.results.curves import Curve, CurvePoint, reckoned
from disback_plugin.lab.results.run_file import AGAIN, read_run_file
from disback_plugin.sealed import damage_of

METRICS = "metrics.jsonl"
Record = dict[str, Any]  # a line of metrics.jsonl


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A point in training: a node switch (`node`; 0 is the teacher), or an end of recording."""

    step: int
    seconds: float
    passes: float
    node: int | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run folder holds.

    curves: by metric. recording: its two ends; None where nothing was recorded. probes: what was
    measured of networks and samples at evaluations, as logged.
    """

    folder: Path
    experiment: str
    arm: str
    seed: int
    num_steps: int
    primary: str
    thresholds: tuple[float, ...]
    complete: bool
    curves: Mapping[str, Curve]
    switches: tuple[Mark, ...] = ()
    recording: tuple[Mark, Mark] | None = None
    probes: tuple[Record, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"

    @property
    def out(self) -> Path:
        """The experiment's folder (OUT), above OUT/runs/<name>."""
        return self.folder.parent.parent

    @property
    def last(self) -> CurvePoint | None:
        """The last evaluation, in whatever metric; None where there is none."""
        ends = [curve.end for curve in self.curves.values()]
        return max(ends, key=lambda end: end.step, default=None)

    @property
    def last_step(self) -> int:
        """Step of the last evaluation; -1 where there is none."""
        return self.last.step if self.last else -1

    def curve(self, metric: str, up_to: int | None = None) -> Curve:
        """Evaluations of `metric`, at most up to a step; without points if it has none."""
        empty = Curve(arm=self.arm, seed=self.seed, metric=metric, points=())
        curve = self.curves.get(metric, empty)
        if up_to is None:
            return curve
        return replace(curve, points=tuple(point for point in curve.points if point.step <= up_to))


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Every run under the given folders (OUT, OUT/runs or a single run), sorted by arm and seed.

    Raises RunError for a folder that holds no run, for a damaged file, and where one arm and seed
    comes twice.
    """
    runs = sorted(
        (_read_run(folder) for folder in run_folders(paths)), key=lambda run: (run.arm, run.seed)
    )
    for run, following in pairwise(runs):
        if (run.experiment, run.name) == (following.experiment, following.name):
            raise RunError(
                f"{run.name} of {run.experiment} comes twice: {run.folder} and {following.folder}; "
                "report one of them"
            )
    return runs


def read_side_by_side(paths: Iterable[Path]) -> list[list[Run]]:
    """The runs under the given folders, together where one summary can count them all.

    They are counted together where all are of one experiment, with one primary metric and the same
    thresholds, and no arm and seed comes twice. Otherwise each experiment's folder (OUT) has a list
    of its own, in the order given. Raises as `read_runs`.
    """
    folders: dict[Path, dict[Path, Run]] = {}
    for path in paths:
        for run in read_runs([path]):
            folders.setdefault(run.out, {})[run.folder] = run
    lists = [sorted(own.values(), key=lambda run: (run.arm, run.seed)) for own in folders.values()]
    runs = sorted((run for own in lists for run in own), key=lambda run: (run.arm, run.seed))
    settings = {(run.experiment, run.primary, run.thresholds) for run in runs}
    if len(settings) == 1 and len({run.name for run in runs}) == len(runs):
        return [runs]
    return lists


def run_folders(paths: Iterable[Path]) -> list[Path]:
    """The folders of runs under the given ones, each once; RunError where one holds none."""
    return [*dict.fromkeys(folder for path in paths for folder in _run_folders(Path(path)))]


def _run_folders(path: Path) -> list[Path]:
    path = Path(os.path.realpath(path))  # resolve() raises for a loop of links
    for pattern in ("run.json", "*/run.json", "runs/*/run.json"):
        found = sorted(file.parent for file in path.glob(pattern))
        if found:
            return found
    raise RunError(
        f"no run in {path}: looked for run.json, */run.json and runs/*/run.json; "
        "give the --out folder of `disback run` or `disback demo`, or one folder under its runs/"
    )


def _read_run(folder: Path) -> Run:
    said, file = read_run_file(folder), folder / METRICS
    said.check(folder, METRICS)
    records = read_metrics(file)
    with damage_of(file, RunError, AGAIN):
        return Run(
            folder=folder,
            experiment=said.experiment,
            arm=said.arm,
            seed=said.seed,
            num_steps=said.num_steps,
            primary=said.primary,
            thresholds=said.thresholds,
            complete=said.complete,
            curves=_curves(said.arm, said.seed, records),
            switches=tuple(_mark(one, one["node"]) for one in records if one["kind"] == "switch"),
            recording=_recording(records),
            probes=tuple(one for one in records if one["kind"] == "mismatch"),
        )


def read_metrics(file: Path) -> list[Record]:
    """Records of a metrics.jsonl, by step; of two of one kind and step (a resume) the later holds.

    A torn last line (a killed run) is left out; any other damage raises RunError. A run that has
    written nothing yet has no records.
    """
    lines = []
    with damage_of(file, RunError, AGAIN):
        if os.path.lexists(file):
            lines = file.read_bytes().splitlines()
    records: dict[tuple[str, int], Record] = {}
    for number, line in enumerate(lines, start=1):
        try:
            with damage_of(file, RunError, AGAIN):
                record = checked(json.loads(line))
        except RunError as error:
            if number == len(lines):
                break
            raise RunError(f"line {number}: {error}") from None
        records[record["kind"], record["step"]] = record
    return sorted(records.values(), key=lambda record: record["step"])


def checked(record: Record) -> Record:
    """A record whose words and numbers are such; None is a number that was not finite.

    What it cost is finite, as a curve has its place by that.
    """
    numbers = dict(record)
    words = str(numbers.pop("kind")), numbers.pop("stage", None)
    numbers |= numbers.pop("metrics", {})
    if not isinstance(record["step"], int) or not isinstance(words[1], str | None):
        raise TypeError("a step is no whole number, or a stage no word")
    for name, value in numbers.items():
        if not isinstance(value, int | float | None):
            raise TypeError(f"{name} is {value!r:.60}, no number")
    for cost in ("seconds", "passes"):
        if (value := record.get(cost, 0.0)) is None or not math.isfinite(reckoned(value)):
            raise ValueError(f"{cost} is {value!r:.60}, not finite")
    if "metrics" in record:
        return {**_reckoned(record), "metrics": _reckoned(record["metrics"])}
    return _reckoned(record)


def _reckoned(record: Record) -> Record:
    numbers = {name: value for name, value in record.items() if isinstance(value, int | float)}
    finite = {name: math.isfinite(reckoned(value)) for name, value in numbers.items()}
    return {name: value if finite.get(name, True) else None for name, value in record.items()}


def _curves(arm: str, seed: int, records: Iterable[Record]) -> dict[str, Curve]:
    points: dict[str, list[CurvePoint]] = defaultdict(list)
    for record in records:
        for name, value in record["metrics"].items() if record["kind"] == "eval" else ():
            number = math.nan if value is None else float(value)
            cost = record["step"], record["seconds"], record["passes"]
            points[name].append(CurvePoint(*cost, number))
    return {
        name: Curve(arm=arm, seed=seed, metric=name, points=tuple(own))
        for name, own in points.items()
    }


def _mark(record: Record, node: int | None = None) -> Mark:
    return Mark(step=record["step"], seconds=record["seconds"], passes=record["passes"], node=node)


def _recording(records: Sequence[Record]) -> tuple[Mark, Mark] | None:
    """From the run's start, or where an earlier version recorded in mid-run, to the last node."""
    begun = [_mark(record) for record in records if record["kind"] == "recording"]
    recorded = [
        _mark(record)
        for record in records
        if record["kind"] == "node" or record.get("stage") == "record"
    ]
    start = begun[-1] if begun else Mark(step=0, seconds=0.0, passes=0.0)
    return (start, recorded[-1]) if recorded else None
