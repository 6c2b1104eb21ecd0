"""Run folders are read as written; what is no run, or is damaged, is a clear error."""

import json
import math

import pytest

from disback_plugin.errors import RunError
from disback_plugin.lab.report import build_report
from disback_plugin.lab.results.curves import Curve
from disback_plugin.lab.results.runs import Mark, read_metrics, read_runs, read_side_by_side


def test_a_run_is_read_as_written(make_experiment) -> None:
    experiment = make_experiment()
    experiment.add("disback", 3, {0: 90.0, 20: 40.0, 40: 4.0}, others={"fd_feature": 7.0})
    (run,) = read_runs([experiment.out])
    assert (run.experiment, run.arm, run.seed, run.num_steps) == ("toy", "disback", 3, 40)
    assert (run.primary, run.thresholds, run.complete) == ("fd_pixel", (50.0, 10.0, 5.0), True)
    assert run.name == "disback-seed3"
    assert run.out == experiment.out
    assert run.curve("fd_pixel") == Curve(
        arm="disback",
        seed=3,
        metric="fd_pixel",
        points=((0, 0, 0, 90.0), (20, 10.0, 160, 40.0), (40, 20.0, 320, 4.0)),
    )
    assert run.curve("fd_feature", up_to=20).points == ((0, 0, 0, 7.0), (20, 10.0, 160, 7.0))
    assert run.curve("energy_distance").points == ()
    assert run.switches == (
        Mark(step=20, seconds=10.0, passes=160, node=1),
        Mark(step=30, seconds=15.0, passes=240, node=0),
    )
    assert run.recording == (
        Mark(step=0, seconds=0.0, passes=0.0),
        Mark(step=20, seconds=10.0, passes=160),
    )


def test_a_recording_in_mid_run_by_an_earlier_version_has_its_own_start(make_experiment) -> None:
    experiment = make_experiment()
    folder = experiment.add("disback", 0, {0: 90.0, 20: 40.0, 40: 4.0})
    line = {"kind": "recording", "step": 12, "seconds": 6.0, "passes": 96}
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    (run,) = read_runs([experiment.out])
    assert run.recording == (
        Mark(step=12, seconds=6.0, passes=96),
        Mark(step=20, seconds=10.0, passes=160),
    )


def test_out_its_runs_folder_and_single_runs_are_all_accepted_and_counted_once(make_experiment):
    experiment = make_experiment()
    folder = experiment.add("fixed", 0, {0: 9.0})
    experiment.add("disback", 0, {0: 9.0})
    both = ["disback-seed0", "fixed-seed0"]
    assert [run.name for run in read_runs([experiment.out])] == both
    assert [run.name for run in read_runs([experiment.out / "runs"])] == both
    assert [run.name for run in read_runs([folder])] == ["fixed-seed0"]
    assert [run.name for run in read_runs([folder, experiment.out])] == both
    assert read_runs([folder])[0].recording is None


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_is_no_run_says_what_was_looked_for(tmp_path, exists: bool) -> None:
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    with pytest.raises(RunError, match=r"no run in .*nothing: looked for run.json.*--out"):
        read_runs([folder])


def test_what_cannot_be_counted_together_is_read_side_by_side(make_experiment) -> None:
    """Of one experiment without a seed twice: one list. Otherwise a list a folder, as given."""
    first, second, other = make_experiment(), make_experiment(), make_experiment(name="other")
    first.add("fixed", 0, {0: 9.0})
    second.add("disback", 0, {0: 9.0})
    other.add("fixed", 0, {0: 9.0})

    def read(*experiments):
        lists = read_side_by_side([one.out for one in experiments])
        return [[(run.experiment, run.name) for run in own] for own in lists]

    assert read(first, second) == [[("toy", "disback-seed0"), ("toy", "fixed-seed0")]]
    assert read(first, first) == [[("toy", "fixed-seed0")]]
    assert read(other, first) == [[("other", "fixed-seed0")], [("toy", "fixed-seed0")]]
    second.add("fixed", 0, {0: 8.0})
    assert [len(own) for own in read(second, first)] == [2, 1]


def test_one_arm_and_seed_from_two_folders_is_refused(make_experiment) -> None:
    experiments = [make_experiment(), make_experiment()]
    for experiment in experiments:
        experiment.add("fixed", 1, {0: 9.0})
    with pytest.raises(RunError, match="fixed-seed1 of toy comes twice"):
        read_runs([experiment.out for experiment in experiments])


def test_a_torn_last_line_is_left_out(make_experiment) -> None:
    folder = make_experiment().add("fixed", 0, {0: 9.0, 10: 5.0})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "eval", "step": 20, "sec')
    (run,) = read_runs([folder])
    assert run.last_step == 10


def test_a_damaged_line_before_the_last_is_an_error_that_names_it(make_experiment) -> None:
    folder = make_experiment().add("fixed", 0, {0: 9.0, 10: 5.0})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text("\n".join([lines[0][:20], lines[1]]))
    with pytest.raises(RunError, match=r"line 1: .*metrics.jsonl is damaged"):
        read_runs([folder])


@pytest.mark.parametrize("cost", [{"seconds": float("inf")}, {"passes": None}])
def test_a_cost_that_is_not_finite_is_damage(make_experiment, cost) -> None:
    folder = make_experiment().add("fixed", 0, {0: 9.0, 10: 5.0})
    first, second = (folder / "metrics.jsonl").read_text().splitlines()
    (folder / "metrics.jsonl").write_text(f"{json.dumps(json.loads(first) | cost)}\n{second}\n")
    with pytest.raises(RunError, match=r"line 1: .*metrics.jsonl is damaged .*not finite"):
        read_runs([folder])


def test_after_a_resume_the_later_record_of_a_step_holds(tmp_path) -> None:
    records = [
        {"kind": "eval", "step": 0, "value": 1}, {"kind": "eval", "step": 10, "value": 2},
        {"kind": "train", "step": 10, "value": 3}, {"kind": "eval", "step": 20, "value": 4},
        {"kind": "eval", "step": 10, "value": 5},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    read = read_metrics(tmp_path / "metrics.jsonl")
    assert [(record["kind"], record["step"], record["value"]) for record in read] == [
        ("eval", 0, 1), ("eval", 10, 5), ("train", 10, 3), ("eval", 20, 4),
    ]  # fmt: skip


FIELDS = (
    '{"experiment": "toy", "arm": "fixed", "seed": 0, "num_steps": 1, "primary": "x", '
    '"thresholds": THRESHOLDS, "status": "complete"}'
)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object: list"),
        ('{"arm": "f\xff"}', "can't decode byte"),
        ("[" * 100_000, "RecursionError"),
        ('{"arm": "fixed"}', "experiment: Field required"),
        (FIELDS.replace("THRESHOLDS", "5"), "thresholds: Input should be a valid tuple"),
        (FIELDS.replace("THRESHOLDS", "[NaN]"), "thresholds.0: Input should be a finite number"),
        (FIELDS.replace("THRESHOLDS", "[]").replace("complete", "cpmplete"), "status: Input"),
        (f'{{"arm": "fixed", "sha257": "{64 * "a"}"}}', "its digest has the name 'sha257'"),
    ],
)
def test_a_damaged_run_json_is_a_clear_error(make_experiment, damage: str, message: str) -> None:
    folder = make_experiment().add("fixed", 0, {0: 9.0})
    (folder / "run.json").write_text(damage, encoding="latin-1")
    with pytest.raises(RunError, match=rf"(?s)run.json.*{message}.*run that arm and seed again"):
        read_runs([folder])


@pytest.mark.parametrize("value", [1.7e308, -1e101, 10**400], ids=range(3))
def test_a_value_that_cannot_be_squared_counts_as_not_finite(make_experiment, value) -> None:
    built = make_experiment()
    built.add("fixed", 0, {0: 9.0, 10: value, 20: 8.0}, others={"other": value})
    (run,) = read_runs([built.out])
    assert [math.isfinite(point.value) for point in run.curves["fd_pixel"].points] == [1, 0, 1]
    assert build_report([built.out], built.out / "report")["primary"] == "fd_pixel"
