"""The verdict's words are explained: those that it uses, and every metric that there is."""

import pytest

from disback_plugin.lab.problems.digits import DigitsConfig
from disback_plugin.lab.problems.gaussians import GaussiansConfig
from disback_plugin.lab.report.words import METRICS, metric_meaning, words
from disback_plugin.lab.results.curves import HIGHER_IS_BETTER
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import read_runs


def summary_of(make_experiment, *arms: str, num_seeds: int = 3) -> dict:
    experiment = make_experiment()
    for arm in arms:
        for seed in range(num_seeds):
            experiment.add(arm, seed, {0: 90, 10: 60, 20: 4})
    return summarise_runs(read_runs([experiment.out]))


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (("disback",), ["fd_pixel"]),
        (("disback", "warm"), ["DisBack", "the warm fake score", "fd_pixel"]),
        (
            ("disback", "fixed", "warm"),
            ["DisBack", "the fixed teacher", "the warm fake score", "fd_pixel"],
        ),
    ],
)
def test_only_what_the_verdict_says_is_explained(make_experiment, arms, expected) -> None:
    found = [word for word, _ in words(summary_of(make_experiment, *arms))]
    more = ["network passes", "95 % interval"] if len(arms) > 1 else []
    assert found == expected + more


def test_one_seed_has_no_interval_to_explain(make_experiment) -> None:
    summary = summary_of(make_experiment, "disback", "fixed", num_seeds=1)
    assert "95 % interval" not in dict(words(summary))


def test_every_metric_of_ours_has_a_meaning_and_every_other_its_direction() -> None:
    ours = {*DigitsConfig.metric_names, *GaussiansConfig.metric_names, "fd_classifier"}
    assert ours == METRICS.keys()
    assert METRICS.keys() >= HIGHER_IS_BETTER
    assert metric_meaning("mode_coverage").endswith("1 at most; higher is better")
    assert metric_meaning("FID") == "lower is better"
