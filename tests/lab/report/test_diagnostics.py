"""Mismatch, score gap and node health over training: logged by the trainer, drawn in the report."""

import html
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from xml.etree import ElementTree

import pytest

from disback_plugin.lab.report import build_report
from disback_plugin.lab.report.diagnostics import (
    GAP_CAPTION,
    HEALTH_CAPTION,
    gap_plot,
    health_plot,
    mismatch_plot,
)
from disback_plugin.lab.results.runs import read_runs
from disback_plugin.lab.trainer import run_experiment
from tests.lab.trainer.conftest import lines, tiny_config

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
    logged = [
        lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl", "mismatch")[0]
        for arm in ("disback", "fixed", "warm")
    ]
    plot = mismatch_plot(read_runs([out]))
    assert plot is not None
    assert {arm.name for arm in plot.arms} == {"disback", "fixed", "warm"}
    floor = fmean(line["disback/mismatch_floor"] for line in logged)
    assert plot.reference == (pytest.approx(floor), "floor")
    assert plot.chart("steps").y.kind == "log"


def test_the_score_gap_is_logged_always_and_the_health_while_a_node_answers(out: Path) -> None:
    """Of 16 steps 1 to 6 record, node 2 answers at 7 to 9 and node 1 at 10 to 12."""
    health = {"disback/health_cosine", "disback/health_size"}
    for arm, with_health in (("fixed", []), ("warm", []), ("disback", [8])):
        found = lines(out / "runs" / f"{arm}-seed0" / "metrics.jsonl", "mismatch")
        assert all(line["disback/score_gap"] > 0 for line in found)
        assert [line["step"] for line in found if health <= line.keys()] == with_health
        assert [line["step"] for line in found if health & line.keys()] == with_health
        for line in found:
            if health <= line.keys():  # nodes and teacher are six steps apart
                assert 0.9 < line["disback/health_cosine"] <= 1
                assert 0.3 < line["disback/health_size"] < 1


def test_the_figures_of_the_pull_show_what_was_logged(out: Path) -> None:
    runs = read_runs([out])
    logged = lines(out / "runs" / "disback-seed0" / "metrics.jsonl", "mismatch")
    gap, health = gap_plot(runs), health_plot(runs)
    assert gap is not None
    drawn = {arm.name: [point.value for point in arm.middle] for arm in gap.arms}
    assert drawn.keys() == {"disback", "fixed", "warm"}
    assert drawn["disback"] == [line["disback/score_gap"] for line in logged]
    assert health is not None
    arms = {arm.name: arm for arm in health.arms}
    for name in ("cosine", "size"):
        (point,) = arms[name].middle
        assert (point.step, point.passes) == (8, logged[1]["passes"])
        assert point.value == logged[1][f"disback/health_{name}"]
    assert health.reference == (1.0, "teacher")
    assert health.chart("steps").svg().count('<circle class="dot"') == 2  # a point is no line


def test_the_report_holds_the_figures_and_says_how_to_read_them(out: Path, tmp_path: Path) -> None:
    build_report([out], tmp_path)
    for name in ("mismatch", "score_gap", "health"):
        ElementTree.parse(tmp_path / "figures" / f"{name}.svg")
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    for caption in (GAP_CAPTION, HEALTH_CAPTION):
        assert f"<figcaption>{caption}</figcaption>" in page


def test_runs_without_a_probe_give_no_figures(out: Path) -> None:
    runs = [replace(run, probes=()) for run in read_runs([out])]
    assert [draw(runs) for draw in (mismatch_plot, gap_plot, health_plot)] == [None] * 3
