"""Times to thresholds against literal curves; statistics over seeds; which way is better."""

import math

import numpy as np
import pytest

from disback_plugin.errors import DisBackError
from disback_plugin.lab.results.direction import higher_is_better
from disback_plugin.lab.results.statistics import (
    Interval,
    mean_interval,
    paired_ratios,
    ratio_interval,
    spread,
)
from disback_plugin.lab.results.thresholds import CurvePoint, Reach, time_to_threshold

CURVE = [
    CurvePoint(0, 0.0, 0.0, 9.0),
    CurvePoint(10, 1.5, 80.0, 4.0),
    CurvePoint(30, 4.5, 240.0, 6.0),
    CurvePoint(40, 6.0, 320.0, 2.0),
]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (10.0, Reach(0, 0.0, 0.0, 0)),
        (5.0, Reach(10, 1.5, 80.0, 10)),
        (4.0, Reach(10, 1.5, 80.0, 10)),
        (3.9, Reach(40, 6.0, 320.0, 10)),
        (1.9, None),
    ],
)
def test_time_is_that_of_the_first_evaluation_as_good_as_the_threshold(threshold, expected) -> None:
    assert time_to_threshold(CURVE, threshold) == expected


def test_gap_is_the_distance_to_the_evaluation_before() -> None:
    reach = time_to_threshold([CURVE[0], CURVE[1], CurvePoint(35, 5, 280, 1.0)], 2.0)
    assert reach == Reach(35, 5, 280, 25)


def test_coverage_reaches_from_below() -> None:
    curve = [CurvePoint(step, step, step, value) for step, value in ((0, 0.1), (5, 0.7), (9, 0.9))]
    assert time_to_threshold(curve, 0.7, higher_is_better=True) == Reach(5, 5, 5, 5)
    assert time_to_threshold(curve, 0.95, higher_is_better=True) is None


@pytest.mark.parametrize("better_up", [True, False])
def test_a_value_that_is_not_a_number_reaches_nothing(better_up: bool) -> None:
    assert (
        time_to_threshold([CurvePoint(1, 1, 1, math.nan)], 5.0, higher_is_better=better_up) is None
    )


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("fd_pixel", False), ("fd_feature", False), ("sliced_wasserstein", False),
        ("energy_distance", False), ("class_coverage", True), ("mode_coverage", True),
    ],
)  # fmt: skip
def test_direction_of_each_metric(metric: str, expected: bool) -> None:
    assert higher_is_better(metric) is expected


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    assert spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt(7)), 3)
    assert spread([4.0]) == (4.0, None, 1)
    with pytest.raises(DisBackError, match="no values"):
        spread([])


def test_ratios_are_paired_and_never_made_from_an_unreached_side() -> None:
    assert paired_ratios([20, None, 30, 0], [10, 5, None, 10]) == [2.0, None, None, None]
    assert paired_ratios([10], [0]) == [None]
    with pytest.raises(DisBackError, match="2 against 1"):
        paired_ratios([1, 2], [1])


def test_ratios_average_geometrically() -> None:
    assert ratio_interval([2.0, 0.5]).estimate == pytest.approx(1.0)
    assert ratio_interval([2.0, 8.0]).estimate == pytest.approx(4.0)


def test_interval_of_three_values_is_that_of_student_with_two_degrees() -> None:
    """t(2) at 97.5 % is 4.30265; std of 1, 2, 3 is 1."""
    half = 4.30265 / math.sqrt(3)
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-5)
    interval = ratio_interval([math.exp(1), math.exp(2), math.exp(3)])
    expected = (math.exp(2), math.exp(2 - half), math.exp(2 + half))
    assert interval == pytest.approx(expected, rel=1e-4)


def test_fewer_than_three_values_have_no_interval() -> None:
    assert mean_interval([5.0]) == Interval(5.0, None, None)
    assert mean_interval([5.0, 7.0]) == Interval(6.0, None, None)
    assert ratio_interval([4.0, 9.0]) == (pytest.approx(6.0), None, None)
    assert not mean_interval([5.0, 7.0]).excludes(0.0)


def test_equal_ratios_are_known_only_to_the_resolution() -> None:
    assert ratio_interval([2.0] * 3, resolution=0.25) == pytest.approx((2.0, 1.6, 2.5))
    wide = ratio_interval([1.0, 2.0, 4.0])
    assert ratio_interval([1.0, 2.0, 4.0], resolution=0.25) == wide


def test_an_interval_excludes_only_what_lies_outside() -> None:
    interval = Interval(2.0, 1.0, 3.0)
    assert [interval.excludes(value) for value in (0.9, 1.0, 2.5, 3.1)] == [
        True, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("num", [3, 5])
def test_95_percent_intervals_hold_the_truth_in_95_percent_of_cases(num: int) -> None:
    rng = np.random.default_rng(0)
    intervals = [ratio_interval(list(np.exp(rng.normal(0.2, 0.1, size=num)))) for _ in range(2000)]
    missed = np.mean([interval.excludes(math.exp(0.2)) for interval in intervals])
    assert missed == pytest.approx(0.05, abs=0.015)
