"""Speed-ups of a comparison over the baseline at the same learning rate and at its best."""

from dataclasses import replace

import pytest

from disback_plugin.lab.results.summary import summarise_sweep
from tests.lab.results.sweeps import CURVES, swept


def test_speed_ups_are_over_the_same_rate_and_over_the_best_one() -> None:
    rows = {(r["arm"], r["student_lr"]): r for r in summarise_sweep(CURVES, [1.0])["arms"]}
    limit = rows["adaptive", 1e-3]["thresholds"][0]
    assert limit["best_lr"] == 2e-3
    assert limit["arrived"] == 2
    # seeds 0 and 1: 270 / 90 and 180 / 90; seed 2 counts with its budget of 360 passes
    assert limit["over_same_lr"]["estimate"] == pytest.approx((3 * 3 * 270 / 360) ** (1 / 3))
    assert limit["over_best_lr"]["estimate"] == pytest.approx((2 * 2 * 180 / 360) ** (1 / 3))
    assert limit["passes"] == pytest.approx((90 + 90 + 360) / 3)
    assert rows["adaptive", 1e-3]["num_nodes"] == pytest.approx(10 / 3)
    assert rows["fixed", 1e-3]["num_nodes"] is None
    assert rows["fixed", 2e-3]["final"] == pytest.approx(0.9)


def test_a_coverage_arrives_from_below() -> None:
    """The slower arm is at 0.5 after 180 passes, the other after 90."""
    values = {"fixed": [0.1, 0.3, 0.6], "disback": [0.1, 0.5, 0.4]}
    curves = [
        replace(swept(arm, 1e-3, seed, own), metric="mode_coverage")
        for arm, own in values.items()
        for seed in range(3)
    ]
    fixed, disback = (row["thresholds"][0] for row in summarise_sweep(curves, [0.5])["arms"])
    assert (fixed["passes"], disback["passes"]) == (180, 90)
    assert disback["over_same_lr"]["estimate"] == pytest.approx(2.0)


@pytest.mark.parametrize("num_seeds", [1, 2])
def test_one_or_two_seeds_have_no_interval(num_seeds: int) -> None:
    summary = summarise_sweep([curve for curve in CURVES if curve.seed < num_seeds], [1.0])
    assert [
        (entry["low"], entry["high"])
        for row in summary["arms"]
        for limit in row["thresholds"]
        for entry in (limit["over_same_lr"], limit["over_best_lr"])
        if entry is not None
    ] == [(None, None)] * 6


def test_a_seed_that_diverged_leaves_no_mean() -> None:
    curves = [swept("fixed", 1e-3, seed, [8.0, value]) for seed, value in ((0, 1.0), (1, 1e400))]
    (row,) = summarise_sweep(curves, [2.0])["arms"]
    assert (row["final"], row["final_std"], row["passes"]) == (None, None, 90)
