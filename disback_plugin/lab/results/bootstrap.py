"""Speed-ups over paired seeds with bootstrap intervals; seeds that never arrive are said so."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from disback_plugin.errors import DisBackError


class SpeedUp(NamedTuple):
    """Geometric mean of baseline cost / arm cost over paired seeds, with a percentile interval.

    low, high: None for one seed, which has nothing to resample.
    A seed that did not arrive counts with its whole budget, as 1 where it did in neither:
    `arrived` of `num` did in the arm, `baseline_arrived` in the baseline. The estimate is then a
    bound: too high where the arm's are fewer, too low where the baseline's are.
    """

    estimate: float
    low: float | None
    high: float | None
    arrived: int
    baseline_arrived: int
    num: int


def speed_up(
    baseline: Sequence[float | None],
    arm: Sequence[float | None],
    baseline_budget: float,
    arm_budget: float,
    level: float = 0.95,
    num_resamples: int = 10_000,
) -> SpeedUp:
    """Costs to a threshold per seed, in one unit; None: not reached within the budget.

    A cost below 1 counts as 1. Seeds are resampled in pairs; the generator is seeded, so that equal
    costs give equal intervals.
    """
    if len(baseline) != len(arm) or not baseline:
        raise DisBackError(f"{len(baseline)} against {len(arm)} seeds; give pairs, at least one")
    logs = [
        0.0
        if before is None and after is None
        else math.log(_clipped(before, baseline_budget) / _clipped(after, arm_budget))
        for before, after in zip(baseline, arm, strict=True)
    ]
    interval = bootstrap_mean(logs, level, num_resamples) if len(logs) > 1 else None
    return SpeedUp(
        estimate=math.exp(sum(logs) / len(logs)),
        low=math.exp(interval[0]) if interval else None,
        high=math.exp(interval[1]) if interval else None,
        arrived=sum(cost is not None for cost in arm),
        baseline_arrived=sum(cost is not None for cost in baseline),
        num=len(arm),
    )


def bootstrap_mean(
    values: Sequence[float] | np.ndarray, level: float = 0.95, num_resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile interval of the mean of `values`."""
    data = np.asarray(values, dtype=np.float64)
    rows = np.random.default_rng(0).integers(len(data), size=(num_resamples, len(data)))
    low, high = np.quantile(data[rows].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _clipped(cost: float | None, budget: float) -> float:
    """A threshold that holds before the first step costs nothing: one unit stands for it."""
    return budget if cost is None else max(cost, 1.0)
