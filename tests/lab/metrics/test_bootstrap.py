"""Speed-ups over paired seeds: estimate, interval, and seeds that never arrive."""

import math

import numpy as np
import pytest

from disback_plugin.errors import DisBackError
from disback_plugin.lab.results.bootstrap import bootstrap_mean, speed_up


def test_equal_ratios_have_no_spread() -> None:
    found = speed_up([100.0, 200.0, 50.0], [50.0, 100.0, 25.0], 400, 400)
    assert found == pytest.approx((2.0, 2.0, 2.0, 3, 3, 3))


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    low, high = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


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


def test_one_seed_has_no_interval() -> None:
    assert speed_up([100.0], [50.0], 400, 400) == (pytest.approx(2.0), None, None, 1, 1, 1)


def test_unpaired_seeds_are_refused() -> None:
    with pytest.raises(DisBackError, match="1 against 2 seeds"):
        speed_up([1.0], [1.0, 2.0], 1, 1)


def test_a_threshold_that_holds_from_the_start_costs_one_unit() -> None:
    assert speed_up([0.0, 0.0], [0.0, 0.0], 400, 400).estimate == 1.0
