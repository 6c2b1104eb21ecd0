"""How often the comparison errs: equal arms are called different rarely, a real gain is called."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from disback_plugin.lab.results.comparison import compare, speedups
from disback_plugin.lab.results.curves import Curve, CurvePoint
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import Run

PRIMARY = "sliced_wasserstein"
THRESHOLDS = (2.0, 1.0, 0.5)
LAST_STEP = 400


def simulated(
    rng, arm, seed_effects, speed=1.0, noise=0.08, gap=10, thresholds=THRESHOLDS
) -> list[Run]:
    """Curves 4 exp(-rate step) + 0.3 with a rate per seed, shared over arms, and noise of the arm.

    0.5 is then reached at about step 200, somewhat earlier or later with each seed.
    """
    runs = []
    for seed, effect in enumerate(seed_effects):
        rate = 0.0135 * speed * math.exp(effect + noise * rng.standard_normal())
        floor = 0.3 * math.exp(0.05 * rng.standard_normal())
        points = tuple(
            CurvePoint(step, step, 8 * step, 4 * math.exp(-rate * step) + floor)
            for step in range(0, LAST_STEP + 1, gap)
        )
        runs.append(
            Run(
                folder=Path(f"{arm}-seed{seed}"), experiment="toy", arm=arm, seed=seed,
                num_steps=LAST_STEP, primary=PRIMARY, thresholds=thresholds, complete=True,
                curves={PRIMARY: Curve(arm=arm, seed=seed, metric=PRIMARY, points=points)},
            )
        )  # fmt: skip
    return runs


def compared(rng, num_seeds: int, **ours) -> dict:
    shared = {key: ours[key] for key in ("noise", "gap", "thresholds") if key in ours}
    effects = 0.1 * rng.standard_normal(num_seeds)
    runs = simulated(rng, "disback", effects, **ours) + simulated(rng, "fixed", effects, **shared)
    return summarise_runs(runs)["comparisons"]["fixed"]


def rates(results: list[str]) -> float:
    return sum(outcome in ("better", "worse") for outcome in results) / len(results)


@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize(
    ("noise", "gap", "thresholds"),
    [(0.02, 10, THRESHOLDS), (0.08, 10, THRESHOLDS), (0.2, 10, THRESHOLDS), (0.08, 40, THRESHOLDS),
     (0.08, 10, ())],
)  # fmt: skip
def test_equal_arms_are_called_different_at_most_as_often_as_95_percent_allows(
    num_seeds, noise, gap, thresholds
) -> None:
    """Low and high noise, evaluations close and far apart, and finals alone."""
    rng = np.random.default_rng(0)
    entries = [
        compared(rng, num_seeds, noise=noise, gap=gap, thresholds=thresholds) for _ in range(300)
    ]
    assert {entry["decided_on"] for entry in entries} >= {"passes" if thresholds else "final"}
    assert rates([entry["outcome"] for entry in entries]) <= 0.10
    assert rates([entry["final"]["outcome"] for entry in entries]) <= 0.10


@pytest.mark.parametrize("num_seeds", [1, 2])
@pytest.mark.parametrize("speed", [1.0, 1.5])
def test_one_or_two_seeds_never_claim_anything(num_seeds: int, speed: float) -> None:
    rng = np.random.default_rng(0)
    entries = [compared(rng, num_seeds, speed=speed) for _ in range(100)]
    outcomes = Counter((entry["outcome"], entry["final"]["outcome"]) for entry in entries)
    assert outcomes == {("unknown", "unknown"): 100}
    assert all(entry["speed"]["passes"]["low"] is None for entry in entries)


@pytest.mark.parametrize(("num_seeds", "at_least"), [(3, 0.9), (5, 0.99)])
@pytest.mark.parametrize(("speed", "expected"), [(1.5, "better"), (1 / 1.5, "worse")])
def test_a_real_difference_with_small_spread_is_called(num_seeds, at_least, speed, expected):
    rng = np.random.default_rng(0)
    entries = [compared(rng, num_seeds, speed=speed, noise=0.04) for _ in range(100)]
    called = [entry["outcome"] == expected for entry in entries if entry["decided_on"] == "passes"]
    assert len(called) >= 90
    assert np.mean(called) >= at_least
    ratios = [entry["speed"]["passes"]["ratio"] for entry in entries if entry["speed"]]
    assert np.mean(ratios) == pytest.approx(speed, rel=0.05)


def arm(*steps: int | None, final: float = 1.0, gap: int = 10, passes: int = 8) -> dict:
    """An arm's summary with one threshold, reached after `steps`, one number a seed."""
    seeds = {
        str(seed): step and {"steps": step, "seconds": 1.0, "passes": passes * step, "gap": gap}
        for seed, step in enumerate(steps)
    }
    finals = {"seeds": {seed: final + 0.01 * int(seed) for seed in seeds}}
    return {
        "seeds": list(range(len(steps))),
        "finals": {PRIMARY: finals},
        "thresholds": [{"threshold": 1.0, "seeds": seeds}],
    }


def test_equal_ratios_leave_an_interval_of_one_evaluation_to_either_side() -> None:
    """Steps 100 against 150, evaluated every 10: 1.5x is known to 10 %, not exactly."""
    (entry,) = speedups(arm(100, 100, 100), arm(150, 150, 150))
    steps = entry["steps"]
    assert (steps["ratio"], steps["low"], steps["high"]) == pytest.approx((1.5, 1.5 / 1.1, 1.65))
    assert (entry["passes"]["low"], entry["passes"]["high"]) == pytest.approx((1.5 / 1.1, 1.65))


def test_network_passes_decide_where_steps_cost_different_numbers_of_them() -> None:
    entry = compare(arm(100, 100, 100, passes=4), arm(100, 100, 100), PRIMARY)
    assert entry["speed"]["steps"]["ratio"] == pytest.approx(1.0)
    assert entry["speed"]["passes"]["ratio"] == pytest.approx(2.0)
    assert (entry["decided_on"], entry["outcome"]) == ("passes", "better")


def test_one_evaluation_apart_is_no_clear_difference_and_two_are_one() -> None:
    outcomes = [
        compare(arm(100, 100, 100), arm(*[steps] * 3), PRIMARY)["outcome"]
        for steps in (110, 120, 90, 80)
    ]
    assert outcomes == ["no clear difference", "better", "no clear difference", "worse"]


def test_mean_steps_less_than_one_evaluation_apart_are_no_clear_difference() -> None:
    """Here the ratios alone would claim: 1.5x in four seeds that were quick anyway."""
    entry = compare(arm(20, 20, 20, 20, 200), arm(30, 30, 30, 30, 200), PRIMARY)
    assert entry["speed"]["passes"]["low"] > 1
    assert entry["outcome"] == "no clear difference"


def test_a_seed_that_never_reached_leaves_the_decision_to_the_finals() -> None:
    entry = compare(arm(100, 100, None, final=0.5), arm(200, 200, 200), PRIMARY)
    assert (entry["speed"], entry["decided_on"], entry["outcome"]) == (None, "final", "better")
    counts = entry["short_of"]
    assert (counts["disback_reached"], counts["control_reached"], counts["of"]) == (2, 3, 3)


def test_speedups_are_in_steps_and_passes_never_in_seconds() -> None:
    (entry,) = speedups(arm(100), arm(150))
    assert set(entry) == {
        "threshold", "of", "disback_reached", "control_reached", "steps", "passes",
    }  # fmt: skip
