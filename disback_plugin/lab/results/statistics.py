"""Statistics over a few paired seeds: spread, ratios, Student t intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from disback_plugin.errors import DisBackError

MIN_SEEDS = 3  # below, the t interval is so wide (12.7 standard errors) that none is given


class Spread(NamedTuple):
    """Mean, sample standard deviation (n - 1; None for one value) and number of values."""

    mean: float
    std: float | None
    num: int


class Interval(NamedTuple):
    """An estimate with its t interval; low and high are None for fewer than MIN_SEEDS values."""

    estimate: float
    low: float | None
    high: float | None

    def excludes(self, value: float) -> bool:
        """Whether there is an interval and `value` lies strictly outside of it."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    if not values:
        raise DisBackError("no values to describe; give at least one")
    data = np.asarray(values, dtype=np.float64)
    return Spread(float(data.mean()), float(data.std(ddof=1)) if len(data) > 1 else None, len(data))


def paired_ratios(
    numerators: Sequence[float | None], denominators: Sequence[float | None]
) -> list[float | None]:
    """numerator / denominator per pair; None where a side is None or not above zero."""
    if len(numerators) != len(denominators):
        raise DisBackError(f"{len(numerators)} against {len(denominators)} values; give pairs")
    return [
        None if a is None or b is None or a <= 0 or b <= 0 else a / b
        for a, b in zip(numerators, denominators, strict=True)
    ]


def mean_interval(
    values: Sequence[float], level: float = 0.95, min_half_width: float = 0.0
) -> Interval:
    """Mean with its Student t interval, mean +- t(n - 1) std / sqrt(n), for normal values.

    Equal values would give zero width: `min_half_width` is what the measurement can tell apart.
    """
    mean, std, num = spread(values)
    if std is None or num < MIN_SEEDS:
        return Interval(mean, None, None)
    from scipy.special import stdtrit  # Student's quantile; comes with the `train` extra

    half = float(stdtrit(num - 1, (1 + level) / 2)) * std / math.sqrt(num)
    half = max(half, min_half_width)
    return Interval(mean, mean - half, mean + half)


def ratio_interval(
    ratios: Sequence[float], level: float = 0.95, resolution: float = 0.0
) -> Interval:
    """Geometric mean of positive ratios with the t interval of their logs: 2x and 0.5x give 1x.

    `resolution`: the relative difference that can be told apart (0.1: 10 %); the interval reaches
    at least as far to either side, also where all ratios are equal.
    """
    on_log = mean_interval(
        [math.log(ratio) for ratio in ratios], level=level, min_half_width=math.log1p(resolution)
    )
    if on_log.low is None or on_log.high is None:
        return Interval(math.exp(on_log.estimate), None, None)
    return Interval(math.exp(on_log.estimate), math.exp(on_log.low), math.exp(on_log.high))
