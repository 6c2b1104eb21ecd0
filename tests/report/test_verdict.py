"""The sentence says helped, hurt, mixed, no difference or cannot be judged, and against whom."""

import math

import pytest

from disback_plugin.report import read_runs, summarise, verdict
from disback_plugin.report.comparison import together

GOOD = {0: 90, 10: 20, 20: 4, 30: 3.5, 40: 3}
BAD = {0: 90, 10: 60, 20: 30, 30: 12, 40: 4.5}
STEPS = "3 seeds; 40 steps each, recording counted)."


def shifted(curve, by: float):
    return {step: value * (1 + by) for step, value in curve.items()}


@pytest.fixture
def judge(make_experiment):
    """verdict of arms given as {arm: curve or list of curves, one a seed}."""

    def judge_arms(complete: bool = True, **arms) -> str:
        experiment = make_experiment()
        for arm, curves in arms.items():
            if isinstance(curves, dict):
                curves = [shifted(curves, by) for by in (0.0, 0.02, -0.02)]
            for seed, curve in enumerate(curves):
                experiment.add(arm, seed, curve, complete=complete)
        return verdict(summarise(read_runs([experiment.out])))

    return judge_arms


def test_helped_says_how_much_faster_and_where_it_ended(judge) -> None:
    text = judge(disback=GOOD, fixed=BAD)
    assert text == (
        "DisBack helped here against fixed: 2.00x faster to fd_pixel 5 (in steps, 95 % interval "
        "2.00x to 2.00x) and ended at 3 ± 0.060 against 4.5 ± 0.090 "
        f"(toy, fd_pixel, lower is better; {STEPS}"
    )


def test_hurt_is_said_as_plainly(judge) -> None:
    text = judge(disback=BAD, fixed=GOOD)
    assert text.startswith("DisBack hurt here against fixed: 0.50x as fast to fd_pixel 5")
    assert "ended at 4.5 ± 0.090 against 3 ± 0.060" in text


def test_a_difference_within_the_spread_is_none(judge) -> None:
    noisy = [shifted(GOOD, by) for by in (0.1, -0.1, 0.0)]
    text = judge(disback=GOOD, fixed=noisy)
    assert text.startswith(
        "DisBack made no difference beyond the spread over seeds here against fixed: "
        "no clear difference in steps to fd_pixel 5 (1.00x, 95 % interval 1.00x to 1.00x) and "
        "ended at 3 ± 0.060 against 3 ± 0.30, within the spread"
    )


def test_one_evaluation_sooner_is_no_difference(judge) -> None:
    """Every seed is sooner by one evaluation: less than the curve can tell."""
    text = judge(
        disback=[{0: 90, 10: 60, 20: 4.9, 30: 4.0}] * 3,
        fixed=[{0: 90, 10: 60, 20: 5.1, 30: 4.0}] * 3,
    )
    assert text.startswith("DisBack made no difference")
    assert "no clear difference in steps to fd_pixel 5 (1.50x" in text


def test_sooner_but_worse_at_the_end_is_mixed(judge) -> None:
    text = judge(disback={0: 90, 10: 4, 20: 4.5, 30: 4.9}, fixed={0: 90, 10: 60, 20: 30, 30: 2})
    assert text.startswith("DisBack is mixed here against fixed: 3.00x faster to fd_pixel 5")


def test_a_threshold_that_one_arm_never_reached_gives_counts_not_a_ratio(judge) -> None:
    never = {0: 90, 10: 60, 20: 30, 40: 6}
    text = judge(disback=GOOD, fixed=never)
    assert (
        "helped here against fixed: fd_pixel 5 was reached with 3 of 3 seeds, by fixed with 0 of 3"
        in text
    )
    assert "x faster" not in text


def test_partly_reached_thresholds_give_way_to_an_easier_one(judge) -> None:
    """5 is reached by 2 of 3 seeds of fixed: the ratio told is that of 10."""
    text = judge(disback=GOOD, fixed=[BAD, BAD, {**BAD, 40: 9}])
    assert "2.00x faster to fd_pixel 10 (in steps" in text


def test_no_threshold_reached_is_judged_by_the_end_alone(judge) -> None:
    text = judge(disback={0: 90, 30: 60}, fixed={0: 90, 30: 80})
    assert text.startswith(
        "DisBack helped here against fixed: no threshold tells them apart and ended at 60 ± 1.2"
    )


@pytest.mark.parametrize(
    ("warm", "clause", "conclusion"),
    [
        (BAD, "against warm it helped:", ", so part of the gain is the path itself ("),
        (GOOD, "against warm it made no difference beyond the spread over seeds:",
         ", so the gain is the warm fake score more than the path ("),
        ({0: 90, 10: 1, 20: 1, 40: 1}, "against warm it hurt:",
         ", so the warm fake score alone does better than with the path ("),
    ],
)  # fmt: skip
def test_the_warm_control_tells_whose_gain_it_is(judge, warm, clause, conclusion) -> None:
    text = judge(disback=GOOD, fixed=BAD, warm=warm)
    assert text.startswith("DisBack helped here against fixed")
    assert clause in text
    assert conclusion in text


def test_diverged_disback_runs_hurt(judge) -> None:
    text = judge(disback=[{0: 90, 10: math.inf}] * 3, fixed=[{0: 90, 10: 20}] * 3)
    assert text.startswith("DisBack hurt here against fixed")
    assert "samples were not finite for some seed" in text


def test_one_seed_says_that_the_spread_is_unknown(judge) -> None:
    text = judge(disback=[GOOD], fixed=[BAD])
    assert "2.00x faster to fd_pixel 5 (in steps)" in text
    assert "one seed only, so the spread is unknown" in text


def test_incomplete_runs_make_it_preliminary(judge) -> None:
    assert "preliminary" in judge(complete=False, disback=GOOD, fixed=BAD)


def test_without_a_control_nothing_is_claimed(judge) -> None:
    assert judge(disback=GOOD).startswith("There is no fixed or warm run to compare with")


def test_without_disback_nothing_is_claimed(judge) -> None:
    assert judge(fixed=GOOD) == (
        "No disback run is counted here, so whether DisBack helped cannot be said."
    )


def test_seeds_that_only_one_arm_has_are_told(judge) -> None:
    text = judge(disback=[GOOD] * 3, fixed=[BAD] * 2)
    assert "on the 2 seeds both have" in text


def test_higher_coverage_is_better(make_experiment) -> None:
    experiment = make_experiment(primary="mode_coverage", thresholds=(0.5, 0.9))
    for seed, by in enumerate((0.0, 0.01, -0.01)):
        experiment.add("disback", seed, {0: 0.1, 10: 0.6 + by, 30: 0.95 + by})
        experiment.add("fixed", seed, {0: 0.1, 10: 0.2 + by, 30: 0.6 + by})
    text = verdict(summarise(read_runs([experiment.out])))
    assert text.startswith(
        "DisBack helped here against fixed: mode_coverage 0.9 was reached with 3 of 3"
    )
    assert "higher is better" in text


@pytest.mark.parametrize(
    ("final", "speed", "expected"),
    [
        ("better", "better", "helped"), ("better", "tie", "helped"), ("tie", "better", "helped"),
        ("better", "unknown", "helped"), ("worse", "tie", "hurt"), ("unknown", "worse", "hurt"),
        ("better", "worse", "mixed"), ("worse", "better", "mixed"), ("tie", "tie", "tie"),
        ("tie", "unknown", "tie"), ("unknown", "unknown", "unknown"),
    ],
)  # fmt: skip
def test_outcomes_of_end_and_speed_together(final, speed, expected: str) -> None:
    assert together(final, speed) == expected
