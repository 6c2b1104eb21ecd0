"""Signs of trouble in literal curves, and none in a good one. The teacher's own value is 2."""

import json

import pytest

from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import read_runs


def notes_of(make_experiment, values, **more) -> list[str]:
    experiment = make_experiment(**more)
    experiment.add("fixed", 0, {10 * index: value for index, value in enumerate(values)})
    return summarise_runs(read_runs([experiment.out]))["notes"]


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ((90, 60, 30, 10, 5), None),
        ((90, 60, 30, 10, 14), None),  # noise
        ((90, 60, 10, 5, float("nan")), "fixed-seed0 diverged: from step 40 on its samples"),
        ((90, 100, 105, 110, 120), "fixed-seed0 diverged: it began at 90 and ended at 120"),
        ((90, 30, 10, 12, 16), "fixed-seed0 was best at step 20 (10) and ended at 16"),
        ((90, 60, 50, 49, 48), "fixed-seed0 stalled: 50 at step 20, 48 at step 40, where the"),
        ((90, 60, 50, 49, 47), None),
        ((90, 5, 4, 4, 4), None),  # as good as its teacher, nearly
        ((90, 100, 105, 120), None),  # too few to say
    ],
)
def test_a_report_says_when_a_run_went_wrong(make_experiment, values, sign) -> None:
    notes = notes_of(make_experiment, values)
    assert [note.startswith(sign) for note in notes] == ([True] if sign else [])


@pytest.mark.parametrize(("mismatch", "told"), [(3.4, False), (3.6, True), (None, False)])
def test_a_report_says_when_the_teacher_does_not_know_the_samples(
    make_experiment, mismatch, told
) -> None:
    experiment = make_experiment()
    folder = experiment.add("fixed", 0, {0: 90, 10: 60, 20: 30, 30: 10, 40: 5})
    lines = [
        {"kind": "mismatch", "step": step, "seconds": 1.0, "passes": 9, "disback/mismatch": value}
        for step, value in ((1, 1.4), (40, mismatch))
    ]
    lines[0]["disback/mismatch_floor"] = 0.7
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    notes = summarise_runs(read_runs([experiment.out]))["notes"]
    assert ["does not know its samples: a mismatch of 3.6 at step 40" in n for n in notes] == (
        [True] if told else []
    )


def test_a_coverage_is_not_read_as_a_distance(make_experiment) -> None:
    assert notes_of(make_experiment, (0.9, 0.6, 0.3, 0.1, 0.0), primary="mode_coverage") == []
