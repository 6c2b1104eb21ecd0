"""Statistics over a few paired seeds: spread, ratios, seeded bootstrap intervals."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from disback_plugin.errors import DisBackError


class Spread(NamedTuple):
    """Mean, sample standard deviation (n - 1; None for one value) and number of values."""

    mean: float
    std: float | None
    num: int


class Interval(NamedTuple):
    """An estimate with its bootstrap interval; low and high are None for fewer than two values."""

    estimate: float
    low: float | None
    high: float | None


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


def bootstrap_interval(
    values: Sequence[float], level: float = 0.95, num_resamples: int = 4000, seed: int = 0
) -> Interval:
    """Mean with its percentile bootstrap interval, from a generator of its own.

    With three seeds it is little more than the range of the values: read it with their number.
    """
    mean = spread(values).mean
    if len(values) < 2:
        return Interval(mean, None, None)
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(data), size=(num_resamples, len(data)))
    tail = (1 - level) / 2
    low, high = np.quantile(data[picks].mean(axis=1), [tail, 1 - tail])
    return Interval(mean, float(low), float(high))


def ratio_interval(ratios: Sequence[float], level: float = 0.95, seed: int = 0) -> Interval:
    """Geometric mean of positive ratios with its interval: 2x and 0.5x average to 1x."""
    on_log = bootstrap_interval([math.log(ratio) for ratio in ratios], level=level, seed=seed)
    if on_log.low is None or on_log.high is None:
        return Interval(math.exp(on_log.estimate), None, None)
    return Interval(math.exp(on_log.estimate), math.exp(on_log.low), math.exp(on_log.high))
