"""Cost of reaching a fixed threshold, read off an evaluation curve."""

from collections.abc import Iterable
from typing import NamedTuple


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


def time_to_threshold(
    curve: Iterable[CurvePoint], threshold: float, *, higher_is_better: bool = False
) -> Reach | None:
    """Cost at the first evaluation at least as good as `threshold`; None where there is none.

    No interpolation: the cost is that of an evaluation which took place, at most one `gap` late.
    A value that is not a number never reaches. The curve is in order of steps.
    """
    before = 0
    for point in curve:
        value, step = point.value, point.step
        if value >= threshold if higher_is_better else value <= threshold:
            return Reach(step, point.seconds, point.passes, step - before)
        before = step
    return None
