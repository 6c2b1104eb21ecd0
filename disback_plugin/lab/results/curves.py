"""What a comparison measures: a curve an arm, learning rate and seed, as JSON lines."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from disback_plugin.errors import RunError
from disback_plugin.lab.results.thresholds import CurvePoint, time_to_threshold


@dataclass(frozen=True)
class Curve:
    """One seed of one arm: evaluations of the primary metric, each with its cost so far.

    seconds: the batch's, shared equally among its seeds. `num_nodes`: recorded in this seed; None
    where nothing was to be recorded.
    """

    arm: str
    student_lr: float
    seed: int
    points: tuple[CurvePoint, ...]
    num_nodes: int | None = None

    @property
    def key(self) -> tuple[str, float]:
        """Arm and learning rate."""
        return self.arm, self.student_lr

    @property
    def final(self) -> float:
        """The last value."""
        return self.points[-1].value

    def passes_to(self, threshold: float) -> float | None:
        """Network passes until the value is at most `threshold`; None where it never is."""
        reach = time_to_threshold(self.points, threshold)
        return None if reach is None else reach.passes


def write_curves(file: Path, curves: Iterable[Curve]) -> None:
    """One JSON object a curve: short columns, to be small."""
    lines = []
    for curve in curves:
        record = {key: value for key, value in asdict(curve).items() if key != "points"}
        for column in CurvePoint._fields:
            record[column] = [_short(getattr(point, column)) for point in curve.points]
        lines.append(json.dumps(record))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_curves(file: Path) -> list[Curve]:
    """What `write_curves` wrote; RunError names a damaged file."""
    curves = []
    try:
        for line in file.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            columns = [record.pop(column) for column in CurvePoint._fields]
            points = tuple(CurvePoint(*row) for row in zip(*columns, strict=True))
            curves.append(Curve(**record, points=points))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file} is damaged ({error!r}); run the comparison again") from None
    return curves


def by_arm(curves: Sequence[Curve]) -> dict[tuple[str, float], list[Curve]]:
    """Curves grouped by arm and learning rate, each group by seed."""
    groups: dict[tuple[str, float], list[Curve]] = {}
    for curve in sorted(curves, key=lambda curve: curve.seed):
        groups.setdefault(curve.key, []).append(curve)
    return groups


def _short(value: float) -> float:
    """Six digits; what is not finite stays infinite, JSON's `Infinity` in Python's reader."""
    return float(f"{value:.6g}")
