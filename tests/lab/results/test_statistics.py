"""Statistics over paired seeds: spread, ratios, intervals, and seeds that never arrive."""

import math

import numpy as np
import pytest

from disback_plugin.errors import DisBackError
from disback_plugin.lab.results.statistics import (
    MANY_SEEDS,
    Interval,
    mean_interval,
    paired_ratios,
    ratio_interval,
    speed_up,
    spread,
)


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


def test_from_ten_values_on_they_are_resampled_and_below_not() -> None:
    """Nine equal values and one far off: resampled, the interval is as lopsided as they are."""
    skewed = [0.0] * (MANY_SEEDS - 1) + [10.0]
    mean, low, high = mean_interval(skewed)
    assert (mean, low, high) == pytest.approx((1.0, 0.0, 3.0))  # 0 of the far one, or 3, in ten
    mean, low, high = mean_interval(skewed[1:])
    assert low is not None
    assert high is not None
    assert mean - low == pytest.approx(high - mean)


def test_equal_values_give_equal_intervals_and_many_those_of_the_normal_distribution() -> None:
    values = list(np.random.default_rng(1).normal(3.0, 2.0, size=400))
    found, half = mean_interval(values), 1.96 * np.std(values) / math.sqrt(400)
    assert found == mean_interval(values)
    assert found[1:] == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.03)


def test_equal_speed_ups_have_no_spread() -> None:
    found = speed_up([100.0, 200.0, 50.0], [50.0, 100.0, 25.0], 400, 400)
    assert found == pytest.approx((2.0, 2.0, 2.0, 3, 3, 3))


def test_seeds_are_paired_so_that_what_they_share_cancels() -> None:
    shared = 1000 * np.exp(np.random.default_rng(0).normal(0, 1, size=18))
    found = speed_up(list(1.2 * shared), list(shared), 1e9, 1e9)
    assert found.low == pytest.approx(1.2)
    assert found.high == pytest.approx(1.2)


def test_a_seed_that_never_arrives_counts_with_its_budget_and_is_said_so() -> None:
    found = speed_up([None, 100.0, None], [100.0, None, None], 400, 300)
    # 400 / 100, 100 / 300, and 1 for the seed that arrives in neither
    assert found.estimate == pytest.approx((4.0 / 3) ** (1 / 3))
    assert (found.arrived, found.baseline_arrived, found.num) == (1, 1, 3)


def test_speed_up_of_one_or_two_seeds_has_no_interval() -> None:
    assert speed_up([100.0], [50.0], 400, 400) == (pytest.approx(2.0), None, None, 1, 1, 1)
    assert speed_up([100.0, 40.0], [50.0, 20.0], 9, 9) == (pytest.approx(2.0), None, None, 2, 2, 2)


def test_speed_up_of_unpaired_seeds_is_refused() -> None:
    with pytest.raises(DisBackError, match="1 against 2 values; give pairs"):
        speed_up([1.0], [1.0, 2.0], 1, 1)


def test_a_threshold_that_holds_from_the_start_costs_one_unit() -> None:
    assert speed_up([0.0, 0.0], [0.0, 0.0], 400, 400).estimate == 1.0
