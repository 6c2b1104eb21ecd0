"""The mismatch over training: logged by the trainer, drawn in the report."""

from pathlib import Path

import pytest

from disback_plugin.report.mismatch import mismatch_figure
from disback_plugin.report.runs import read_runs
from disback_plugin.trainer import run_experiment
from tests.trainer.conftest import lines, tiny_config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mismatch") / "out"
    run_experiment(tiny_config(), folder)
    return folder


def test_every_evaluation_has_a_mismatch_and_the_first_step_the_floor(out: Path) -> None:
    for arm in ("fixed", "disback"):
        found = lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl", "mismatch")
        assert [line["step"] for line in found] == [1, 8, 16]
        assert all(line["disback/mismatch"] > 0 for line in found)
        assert [("disback/mismatch_floor" in line) for line in found] == [True, False, False]
        # an untrained teacher knows neither, but the data lies nearer than the student
        assert found[0]["disback/mismatch_floor"] < found[0]["disback/mismatch"]


def test_all_arms_start_with_the_same_teacher_and_student(out: Path) -> None:
    first = {
        arm: lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl", "mismatch")[0]
        for arm in ("warm", "disback")
    }
    assert first["warm"]["disback/mismatch"] == first["disback"]["disback/mismatch"]


def test_the_figure_has_a_line_an_arm_and_the_floor(out: Path) -> None:
    figure = mismatch_figure(read_runs([out]))
    assert figure is not None
    drawn = figure.axes[0].get_legend().get_texts()
    assert {text.get_text() for text in drawn} == {"disback", "fixed", "warm", "floor"}


def test_runs_without_a_mismatch_give_no_figure(out: Path) -> None:
    runs = read_runs([out])
    for run in runs:
        (run.folder / "metrics.jsonl").write_text("")
    assert mismatch_figure(runs) is None
