"""The summary's numbers from literal curves: equal budget, censoring, paired speed-ups."""

import math

import pytest

from disback_plugin.errors import RunError
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import read_runs


def summary_of(experiment) -> dict:
    return summarise_runs(read_runs([experiment.out]))


@pytest.fixture
def two_seeds(make_experiment):
    """Two seeds an arm; seed 1 of fixed never gets to 5."""
    experiment = make_experiment(seconds_per_step={"disback": 0.25})
    experiment.add("disback", 0, {0: 90, 10: 60, 20: 8, 30: 4, 40: 4.5})
    experiment.add("disback", 1, {0: 90, 10: 70, 20: 30, 30: 9, 40: 3.5})
    experiment.add("fixed", 0, {0: 90, 10: 40, 20: 20, 30: 9, 40: 5})
    experiment.add("fixed", 1, {0: 90, 10: 45, 20: 30, 30: 12, 40: 10})
    return experiment


def test_finals_and_bests_per_seed(two_seeds) -> None:
    disback = summary_of(two_seeds)["arms"]["disback"]
    assert disback["finals"]["fd_pixel"] == {
        "mean": 4.0,
        "std": pytest.approx(math.sqrt(0.5)),
        "seeds": {"0": 4.5, "1": 3.5},
    }
    assert disback["bests"]["fd_pixel"]["seeds"] == {"0": 4.0, "1": 3.5}
    assert disback["seconds"]["seeds"] == {"0": 10.0, "1": 10.0}
    assert disback["passes"]["mean"] == 320


def test_times_to_thresholds_with_seeds_that_never_reach(two_seeds) -> None:
    fixed = summary_of(two_seeds)["arms"]["fixed"]["thresholds"]
    assert [(entry["threshold"], entry["reached"], entry["of"]) for entry in fixed] == [
        (50.0, 2, 2), (10.0, 2, 2), (5.0, 1, 2),
    ]  # fmt: skip
    assert fixed[1]["seeds"] == {
        "0": {"steps": 30, "seconds": 15.0, "passes": 240, "gap": 10},
        "1": {"steps": 40, "seconds": 20.0, "passes": 320, "gap": 10},
    }
    assert fixed[2]["seeds"]["1"] is None


def test_speedups_are_paired_and_leave_unreached_seeds_out(two_seeds) -> None:
    first, second, third = summary_of(two_seeds)["speedups"]["fixed"]
    assert first["steps"]["seeds"] == {"0": 0.5, "1": 0.5}
    assert second["steps"] == {
        "ratio": pytest.approx(math.sqrt(1.5 * 4 / 3)),
        "low": None,  # two seeds
        "high": None,
        "pairs": 2,
        "seeds": {"0": 1.5, "1": pytest.approx(4 / 3)},
    }
    assert second["passes"]["seeds"] == second["steps"]["seeds"]
    assert (third["disback_reached"], third["control_reached"], third["of"]) == (2, 1, 2)
    assert third["steps"]["pairs"] == 1
    assert third["steps"]["seeds"] == {"0": pytest.approx(4 / 3), "1": None}
    assert (third["steps"]["low"], third["steps"]["high"]) == (None, None)


@pytest.mark.parametrize(
    ("primary", "expected"),
    [("fd_pixel", [9.0, 3.0, 1.0]), ("class_coverage", [1.0, 3.0, 9.0])],
)
def test_thresholds_go_from_easy_to_hard_whatever_their_order(make_experiment, primary, expected):
    experiment = make_experiment(primary=primary, thresholds=(3.0, 9.0, 1.0))
    experiment.add("fixed", 0, {0: 5})
    assert summary_of(experiment)["thresholds"] == expected


def test_budget_is_the_smallest_end_of_the_complete_runs(make_experiment) -> None:
    experiment = make_experiment()
    experiment.add("disback", 0, {0: 90, 10: 20, 20: 9, 30: 1})
    experiment.add("fixed", 0, {0: 90, 10: 30, 20: 11})
    experiment.add("fixed", 1, {0: 90, 10: 30}, complete=False)
    experiment.add("warm", 0, {0: 90, 10: 30, 20: 12, 30: 2}, complete=False)
    summary = summary_of(experiment)
    assert summary["budget"] == 20
    assert summary["arms"]["disback"]["finals"]["fd_pixel"]["mean"] == 9
    assert summary["arms"]["disback"]["bests"]["fd_pixel"]["mean"] == 9
    assert summary["arms"]["disback"]["thresholds"][2]["reached"] == 0  # 1 comes after the budget
    assert summary["arms"]["fixed"]["seeds"] == [0]
    assert summary["arms"]["warm"]["finals"]["fd_pixel"]["mean"] == 12
    assert [(run["name"], run["counted"]) for run in summary["runs"]] == [
        ("disback-seed0", True), ("fixed-seed0", True), ("fixed-seed1", False),
        ("warm-seed0", True),
    ]  # fmt: skip
    assert summary["notes"] == [
        "disback-seed0 went on to step 30: counted up to 20.",
        "fixed-seed1 is incomplete (evaluated up to step 10 of 10): drawn, not counted.",
        "warm-seed0 is incomplete (evaluated up to step 30 of 30): counted.",
    ]


def test_without_a_complete_run_the_shortest_sets_the_budget(make_experiment) -> None:
    experiment = make_experiment()
    experiment.add("disback", 0, {0: 90, 10: 20, 20: 9}, complete=False)
    folder = experiment.add("fixed", 0, {0: 90, 10: 30}, complete=False)
    assert summary_of(experiment)["budget"] == 10
    (folder / "metrics.jsonl").unlink()
    summary = summary_of(experiment)
    assert (summary["budget"], list(summary["arms"])) == (20, ["disback"])
    assert "fixed-seed0 is incomplete (no evaluation yet of 10): left out." in summary["notes"]


def test_a_diverged_seed_leaves_no_mean(make_experiment) -> None:
    experiment = make_experiment()
    experiment.add("disback", 0, {0: 90, 10: math.inf})
    experiment.add("disback", 1, {0: 90, 10: 4.0})
    finals = summary_of(experiment)["arms"]["disback"]["finals"]["fd_pixel"]
    assert finals == {"mean": None, "std": None, "seeds": {"0": None, "1": 4.0}}


def test_comparisons_use_the_seeds_both_arms_have(make_experiment) -> None:
    experiment = make_experiment()
    for seed, value in enumerate((4.0, 6.0, 500.0)):
        experiment.add("disback", seed, {0: 90, 10: value})
    for seed, value in enumerate((7.0, 9.0)):
        experiment.add("fixed", seed, {0: 90, 10: value})
    summary = summary_of(experiment)
    final = summary["comparisons"]["fixed"]["final"]
    assert (final["disback"]["mean"], final["control"]["mean"], final["num_seeds"]) == (5.0, 8.0, 2)
    assert any("different seeds" in note for note in summary["notes"])


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"name": "other"}, "experiment"), ({"thresholds": (1.0,)}, "thresholds")],
)
def test_runs_of_different_settings_are_not_mixed(make_experiment, settings, name) -> None:
    experiments = [make_experiment(), make_experiment(**settings)]
    experiments[0].add("fixed", 0, {0: 9.0})
    experiments[1].add("fixed", 1, {0: 9.0})
    with pytest.raises(RunError, match=f"differ in {name}.*a report for each"):
        summarise_runs(read_runs([experiment.out for experiment in experiments]))


def test_a_primary_metric_that_was_not_evaluated_is_named(make_experiment) -> None:
    experiment = make_experiment()
    folder = experiment.add("fixed", 0, {0: 9.0})
    text = (folder / "metrics.jsonl").read_text().replace("fd_pixel", "fd_feature")
    (folder / "metrics.jsonl").write_text(text)
    with pytest.raises(RunError, match="fixed-seed0 has no fd_pixel at step 0, only fd_feature"):
        summary_of(experiment)
