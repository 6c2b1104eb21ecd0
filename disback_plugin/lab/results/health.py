"""What a run's own curve and probes say of its health: a line for each sign of trouble.

The limits told apart runs which went well, diverged, stalled or lost their fake score on CIFAR-10
at 16x16 (docs/training.md). They are signs for the reader and decide nothing.
"""

import math
from collections.abc import Sequence

from disback_plugin.lab.results.curves import CurvePoint, higher_is_better
from disback_plugin.lab.results.run_file import REFERENCE, read_reference
from disback_plugin.lab.results.runs import Record, Run

MIN_POINTS = 5  # evaluations, below which a curve says nothing
THROWN_OFF = 1.25  # the end over the start: worse than before training
REBOUND = 1.5  # the end over the best
FAR = 2.0  # the end over the teacher's own value
OFF = 5.0  # the mismatch at the end over its floor, the teacher's on data
STALLED = 0.05  # of the value at half time, gained since


def health_notes(run: Run) -> list[str]:
    """Of the primary metric where it is a distance, over a run of at least MIN_POINTS evaluations.

    At most one line: what diverged also rose. A run that is near its teacher does not stall.
    """
    points = run.curve(run.primary).points
    if higher_is_better(run.primary) or len(points) < MIN_POINTS:
        return []
    text = (
        _divergence(points)
        or _rebound(points)
        or _mismatch(run.probes)
        or _stall(points, _teachers(run))
    )
    return [f"{run.name} {text}"] if text else []


def _divergence(points: Sequence[CurvePoint]) -> str | None:
    first, last = points[0].value, points[-1].value
    if not math.isfinite(last):
        since = next(point.step for point in points if not math.isfinite(point.value))
        return (
            f"diverged: from step {since} on its samples were not finite for the first time. Lower "
            "the student's learning rate, then the fake score's."
        )
    if last > THROWN_OFF * first:
        return (
            f"diverged: it began at {first:.3g} and ended at {last:.3g}. Lower the student's "
            "learning rate; at a late timestep x0 = x - sigma eps multiplies it by sigma."
        )
    return None


def _rebound(points: Sequence[CurvePoint]) -> str | None:
    last, finite = points[-1].value, [p for p in points if math.isfinite(p.value)]
    best = min(finite, key=lambda point: point.value)
    if last <= REBOUND * best.value:
        return None
    return (
        f"was best at step {best.step} ({best.value:.3g}) and ended at {last:.3g}: lower the "
        "student's learning rate, let it decay, or update the fake score more often."
    )


def _mismatch(probes: Sequence[Record]) -> str | None:
    floors = [probe.get("disback/mismatch_floor") for probe in probes]
    floor, last = next(filter(None, floors), None), probes[-1] if probes else {}
    mismatch = last.get("disback/mismatch")
    if floor is None or mismatch is None or floor <= 0 or mismatch <= OFF * floor:
        return None
    return (
        f"ended where the teacher does not know its samples: a mismatch of {mismatch:.3g} at step "
        f"{last['step']}, {mismatch / floor:.0f} times that of data. Lower the student's learning "
        "rate; at once where this holds from the first steps on."
    )


def _stall(points: Sequence[CurvePoint], teacher: float | None) -> str | None:
    last, half = points[-1], points[len(points) // 2]
    near = teacher is None or last.value <= FAR * teacher
    if near or last.value < (1 - STALLED) * half.value:
        return None
    return (
        f"stalled: {half.value:.3g} at step {half.step}, {last.value:.3g} at step {last.step}, "
        f"where the teacher itself has {teacher:.3g}. Raise the student's learning rate, or the "
        "fake score's."
    )


def _teachers(run: Run) -> float | None:
    """The teacher's own value; None where it is not known."""
    folder = run.out / "teacher"
    return read_reference(folder)[0].get(run.primary) if (folder / REFERENCE).exists() else None
