"""Curves: one metric over the training of one arm with one seed, and what it cost on the way."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from disback_plugin.errors import RunError
from disback_plugin.files import write_text
from disback_plugin.sealed import damage_of, seal, unseal

LARGEST = 1e100  # squares and means of larger values overflow: they count as infinite
HIGHER_IS_BETTER = frozenset({"class_coverage", "mode_coverage"})
Key = tuple[str, float | None]  # arm and learning rate


def higher_is_better(metric: str) -> bool:
    """Coverages count up; every other metric is a distance, where lower is better."""
    return metric in HIGHER_IS_BETTER


class CurvePoint(NamedTuple):
    """One evaluation: host step, training seconds and network passes so far, metric value."""

    step: int
    seconds: float
    passes: float
    value: float


class Reach(NamedTuple):
    """What it took to reach a threshold; `gap` is the steps since the evaluation before."""

    steps: int
    seconds: float
    passes: float
    gap: int


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Evaluations of one metric in order of steps, each with its cost so far.

    student_lr: where a comparison sweeps it; None in a run folder. num_nodes: recorded in this
    seed, told by a comparison; None where nothing was to be recorded.
    """

    arm: str
    seed: int
    metric: str
    points: tuple[CurvePoint, ...]
    student_lr: float | None = None
    num_nodes: int | None = None

    @property
    def key(self) -> Key:
        """Arm and learning rate."""
        return self.arm, self.student_lr

    @property
    def end(self) -> CurvePoint:
        """The last evaluation."""
        return self.points[-1]

    @property
    def best(self) -> float:
        """The best value that is finite; NaN where none is."""
        choose = max if higher_is_better(self.metric) else min
        return choose((point.value for point in self.finite.points), default=math.nan)

    @property
    def finite(self) -> "Curve":
        """Without the values that are not finite."""
        return replace(self, points=tuple(p for p in self.points if math.isfinite(p.value)))

    @property
    def lasting(self) -> "Curve":
        """Each value replaced by the worst from there on: its `reach` is for good.

        A student may pass through a threshold on its way elsewhere: a first crossing flatters it.
        """
        worse = min if higher_is_better(self.metric) else max
        points, worst = [], self.end.value
        for point in reversed(self.points):
            worst = point.value if math.isnan(point.value) else worse(worst, point.value)
            points.append(point._replace(value=worst))
        return replace(self, points=tuple(reversed(points)))

    def reach(self, threshold: float) -> Reach | None:
        """Cost at the first evaluation at least as good as `threshold`; None where there is none.

        No interpolation: the cost is that of an evaluation which took place, at most one `gap`
        late. A value that is not a number never reaches.
        """
        up, before = higher_is_better(self.metric), 0
        for step, seconds, passes, value in self.points:
            if value >= threshold if up else value <= threshold:
                return Reach(step, seconds, passes, step - before)
            before = step
        return None


def by_arm(curves: Iterable[Curve]) -> dict[Key, list[Curve]]:
    """Curves grouped by arm and learning rate, each group by seed."""
    groups: dict[Key, list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: curve.seed):
        groups.setdefault(curve.key, []).append(curve)
    return groups


def at_shared_steps(curves: Sequence[Curve]) -> list[list[CurvePoint]]:
    """The points of all curves at each step which every one of them has."""
    at_step: dict[int, list[CurvePoint]] = {}
    for curve in curves:
        for point in curve.points:
            at_step.setdefault(point.step, []).append(point)
    return [at_step[step] for step in sorted(at_step) if len(at_step[step]) == len(curves)]


def reckoned(value: float) -> float:
    """A value that was read, as a float; infinite where its square would be."""
    if abs(value) > LARGEST:
        return math.inf if value > 0 else -math.inf
    return float(value)


def write_curves(file: Path, curves: Iterable[Curve]) -> None:
    """A comparison's curves, all of one metric: one JSON object each, in short columns."""
    lines = []
    for curve in curves:
        record = {name: getattr(curve, name) for name in ("arm", "student_lr", "seed", "num_nodes")}
        for column in CurvePoint._fields:
            record[column] = [_short(getattr(point, column)) for point in curve.points]
        lines.append(json.dumps(seal(record)))
    write_text(file, "\n".join(lines) + "\n")


def read_curves(file: Path, metric: str) -> list[Curve]:
    """What `write_curves` wrote, of `metric`; RunError names a damaged file."""
    curves = []
    with damage_of(file, RunError, "delete it and run the comparison again"):
        for line in file.read_text(encoding="utf-8").splitlines():
            record = unseal(json.loads(line), file)
            columns = [map(reckoned, record.pop(column)) for column in CurvePoint._fields]
            points = tuple(CurvePoint(*row) for row in zip(*columns, strict=True))
            if not points or not all(math.isfinite(x) for row in points for x in row[:3]):
                raise ValueError("a curve has no points, or steps and costs that are no numbers")
            curves.append(Curve(**record, metric=metric, points=points))
    return curves


def _short(value: float) -> float:
    """Six digits; what is not finite stays infinite, JSON's `Infinity` in Python's reader."""
    return float(f"{value:.6g}")
