"""The headlines: faster, slower, better, worse, no clear difference or too few seeds to say."""

import math
import re

import pytest

from disback_plugin.lab.report import verdict
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import read_runs

GOOD = {0: 90, 10: 20, 20: 4, 30: 3.5, 40: 3}
BAD = {0: 90, 10: 60, 20: 30, 30: 12, 40: 4.5}
SHIFTS = (0.0, 0.02, -0.02, 0.01)


def shifted(curve, by: float):
    return {step: value * (1 + by) for step, value in curve.items()}


@pytest.fixture
def judge(make_experiment):
    """verdict of arms given as {arm: curve or list of curves, one a seed}."""

    def judge_arms(complete: bool = True, **arms) -> str:
        experiment = make_experiment()
        for arm, curves in arms.items():
            if isinstance(curves, dict):
                curves = [shifted(curves, by) for by in SHIFTS]
            for seed, curve in enumerate(curves):
                experiment.add(arm, seed, curve, complete=complete)
        return verdict(summarise_runs(read_runs([experiment.out])))

    return judge_arms


def shifts(curve, *by: float):
    return [shifted(curve, one) for one in by]


def test_faster_says_how_much_and_where_it_ended(judge) -> None:
    """Steps 20 against 40 in every seed, evaluated every 10: 2x, known to a factor of 1.5."""
    assert judge(disback=GOOD, fixed=BAD) == (
        "Against the fixed teacher, DisBack was 2.00x faster to fd_pixel 5 (network passes, "
        "recording counted; 95 % interval 1.33x to 3.00x, 4 seeds); final 3.01 ± 0.051 "
        "against 4.51 ± 0.077 at 40 steps: better."
    )


def test_slower_is_said_as_plainly(judge) -> None:
    assert judge(disback=BAD, fixed=GOOD) == (
        "Against the fixed teacher, DisBack was 2.00x slower to fd_pixel 5 (network passes, "
        "recording counted; 95 % interval 1.33x to 3.00x, 4 seeds); final 4.51 ± 0.077 "
        "against 3.01 ± 0.051 at 40 steps: worse."
    )


def test_a_difference_within_the_spread_is_none(judge) -> None:
    text = judge(disback=GOOD, fixed=shifts(GOOD, 0.1, -0.1, 0.0, 0.05))
    assert text == (
        "Against the fixed teacher, DisBack was not clearly faster or slower to fd_pixel 5 "
        "(1.00x in passes, recording counted; 95 % interval 0.67x to 1.50x, 4 seeds); "
        "final 3.01 ± 0.051 against 3.04 ± 0.26 at 40 steps: no clear difference."
    )


def test_one_evaluation_sooner_is_no_difference(judge) -> None:
    """Every seed is sooner by one evaluation: less than the curve can tell."""
    text = judge(
        disback=[{0: 90, 10: 60, 20: 4.9, 30: 4.0}] * 3,
        fixed=[{0: 90, 10: 60, 20: 5.1, 30: 4.0}] * 3,
    )
    assert "DisBack was not clearly faster or slower to fd_pixel 5 (1.50x in passes" in text


def test_sooner_but_worse_at_the_end_tells_both(judge) -> None:
    text = judge(disback={0: 90, 10: 4, 20: 4.5, 30: 4.9}, fixed={0: 90, 10: 60, 20: 30, 30: 2})
    assert "DisBack was 3.00x faster to fd_pixel 5" in text
    assert text.endswith("against 2 ± 0.034 at 30 steps: worse.")


def test_a_threshold_that_one_arm_never_reached_gives_counts_beside_the_ratio(judge) -> None:
    never = {0: 90, 10: 60, 20: 30, 30: 8, 40: 6}
    text = judge(disback=GOOD, fixed=never)
    assert "DisBack was 1.50x" not in text
    assert "not clearly faster or slower to fd_pixel 10 (1.50x in passes" in text
    assert text.endswith(
        ": better. fd_pixel 5 was reached by 4 of 4 seeds with DisBack, "
        "0 of 4 with the fixed teacher."
    )


def test_partly_reached_thresholds_give_way_to_an_easier_one(judge) -> None:
    """5 is reached by 3 of 4 seeds of fixed: the ratio told is that of 10."""
    text = judge(disback=GOOD, fixed=[BAD, BAD, {**BAD, 40: 9}, BAD])
    assert "DisBack was 2.00x faster to fd_pixel 10 (network passes" in text
    assert "fd_pixel 5 was reached by 4 of 4 seeds with DisBack, 3 of 4 with the fixed" in text


@pytest.mark.parametrize(
    ("ours", "theirs", "claim"),
    [(60, 80, "better: 60.1 ± 1.0 against 80.2 ± 1.4"),
     (80, 60, "worse: 80.2 ± 1.4 against 60.1 ± 1.0"),
     (60, 60, "with no clear difference: 60.1 ± 1.0 against 60.1 ± 1.0")],
)  # fmt: skip
def test_without_a_common_threshold_the_finals_decide(judge, ours, theirs, claim) -> None:
    text = judge(disback={0: 90, 30: ours}, fixed={0: 90, 30: theirs})
    assert text.startswith(f"Against the fixed teacher, DisBack ended {claim} at 30 steps (paired")
    assert text.endswith(
        "No threshold was reached by all seeds of both: fd_pixel 50 was reached by 0 of 4 seeds "
        "with DisBack, 0 of 4 with the fixed teacher."
    )


def test_seeds_that_begin_at_the_threshold_give_no_speed(judge) -> None:
    text = judge(disback={0: 4, 10: 2}, fixed={0: 4, 10: 3})
    assert text.startswith("Against the fixed teacher, DisBack ended better: 2")
    assert text.endswith("Some seed began at fd_pixel 5 or better, so speed cannot be compared.")


def test_each_control_has_a_line_fixed_first(judge) -> None:
    fixed, warm = judge(disback=GOOD, fixed=BAD, warm=GOOD).split("\n")
    assert fixed.startswith("Against the fixed teacher, DisBack was 2.00x faster to fd_pixel 5")
    assert warm.startswith("Against the warm fake score, DisBack was not clearly faster or slower")


def test_runs_that_all_diverged_are_worse_and_one_of_them_decides_nothing(judge) -> None:
    good = [{0: 90, 10: 60}] * 3
    diverged = [{0: 90, 10: math.inf}] * 3
    assert judge(disback=diverged, fixed=good).startswith(
        "Against the fixed teacher, DisBack ended worse "
        "(samples not finite for 3 of 3 seeds against 0)."
    )
    assert judge(disback=diverged[:1] + good[:2], fixed=good).startswith(
        "Against the fixed teacher, the end decides nothing about DisBack "
        "(samples not finite for 1 of 3 seeds against 0)."
    )


def test_one_seed_claims_nothing_however_large_the_difference(judge) -> None:
    assert judge(disback=[GOOD], fixed=[BAD]) == (
        "One seed only: nothing can be said of DisBack against the fixed teacher "
        "(2.00x in passes to fd_pixel 5; final 3 against 4.5 at 40 steps)."
    )


def test_two_seeds_claim_nothing_and_still_give_the_numbers(judge) -> None:
    assert judge(disback=[GOOD] * 2, fixed=shifts(BAD, 0.0, 0.02)) == (
        "Against the fixed teacher: too few seeds to say (2 seeds; 2.00x in passes to fd_pixel 5; "
        "final 3 ± 0 against 4.54 ± 0.064 at 40 steps)."
    )


def test_incomplete_runs_make_it_preliminary(judge) -> None:
    assert judge(complete=False, disback=GOOD, fixed=BAD).startswith("Preliminary, not all runs")


@pytest.mark.parametrize("ours", [GOOD, BAD, {0: 90, 40: 60}, {0: 90, 40: math.inf}, {0: 3, 40: 2}])
@pytest.mark.parametrize("theirs", [GOOD, BAD, {0: 90, 20: 7, 40: 60}])
@pytest.mark.parametrize("num_seeds", [1, 2, 4])
def test_a_headline_is_at_most_two_sentences_of_45_words(judge, ours, theirs, num_seeds) -> None:
    seeds = SHIFTS[:num_seeds]
    text = judge(disback=shifts(ours, *seeds), fixed=shifts(theirs, *seeds))
    sentences = re.split(r"(?<=\.) ", text)
    assert len(sentences) <= 2
    assert max(len(sentence.split()) for sentence in sentences) <= 45


def test_without_a_control_nothing_is_claimed(judge) -> None:
    assert judge(disback=GOOD).startswith("There is no fixed or warm run to compare with")


def test_without_disback_nothing_is_claimed(judge) -> None:
    assert judge(fixed=GOOD) == (
        "No disback run is counted here, so whether DisBack helped cannot be said."
    )


def test_only_seeds_that_both_arms_have_count(judge) -> None:
    assert "too few seeds to say (2 seeds;" in judge(disback=[GOOD] * 3, fixed=[BAD] * 2)


def test_higher_coverage_is_better(make_experiment) -> None:
    experiment = make_experiment(primary="mode_coverage", thresholds=(0.5, 0.9))
    for seed, by in enumerate((0.0, 0.01, -0.01)):
        experiment.add("disback", seed, {0: 0.1, 10: 0.6 + by, 20: 0.6, 30: 0.95 + by})
        experiment.add("fixed", seed, {0: 0.1, 10: 0.2 + by, 20: 0.3, 30: 0.6 + 2 * by})
    text = verdict(summarise_runs(read_runs([experiment.out])))
    assert "DisBack was 3.00x faster to mode_coverage 0.5" in text
    assert "final 0.95 ± 0.010 against 0.6 ± 0.020 at 30 steps: better." in text
