"""What a run warns of reaches the terminal and the report, whatever process runs it."""

import json
import logging
from pathlib import Path

import pytest

from disback_plugin.config import RecordConfig
from disback_plugin.lab.compare import compare
from disback_plugin.lab.results.run_summary import summarise_runs
from disback_plugin.lab.results.runs import read_runs
from disback_plugin.lab.trainer import run, run_experiment
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.jobs import run_side_by_side
from disback_plugin.lab.trainer.unfinished import unfinished
from disback_plugin.schedule import Adaptive, FixedInterval, Schedule
from tests.lab.trainer.conftest import tiny_config

SHORT = ("disback.schedule={name: fixed, interval: 9}", "evaluation.thresholds=[1.0]")


@pytest.mark.parametrize(
    ("schedule", "num_steps", "node"),
    [
        (FixedInterval(interval=3), 13, 0),  # 6 of recording, 2 nodes for 3 steps each, one more
        (FixedInterval(interval=3), 12, 1),
        (FixedInterval(interval=3), 9, 2),
        (Adaptive(cap=3), 13, 0),
        (Adaptive(cap=4), 13, 1),
    ],
)
def test_a_walk_that_does_not_end_is_told_with_the_node(
    schedule: Schedule, num_steps: int, node: int
) -> None:
    told = unfinished("disback", RecordConfig(num_steps=6, at=(1, 3, 6)), schedule, num_steps)
    if node == 0:
        assert told == []
    else:
        [line] = told
        assert f"node {node} may still answer at the end" in line


def test_it_is_told_before_anything_is_loaded_and_in_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "prepare_experiment", None)  # calling it would be another error
        with pytest.raises(TypeError):
            run_experiment(tiny_config(*SHORT), tmp_path / "out", ["disback"])
    assert "the way back takes up to 18 steps, but distill.num_steps=16 leaves 10" in caplog.text
    run_experiment(tiny_config(*SHORT), tmp_path / "out", ["disback"])
    notes = summarise_runs(read_runs([tmp_path / "out"]))["notes"]
    assert notes == ["disback-seed0 ended at node 1: the teacher never had its turn."]


def test_a_comparison_tells_it_too(tmp_path: Path) -> None:
    said: list[str] = []
    compare(tiny_config(*SHORT), tmp_path / "out", ["fixed", "disback"], [], 1, said.append)
    assert [line.split(":")[:2] for line in said[:1]] == [["note", " arm disback"]]


@pytest.mark.thorough
def test_warnings_of_job_processes_reach_the_terminal_once(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(*SHORT)
    run_experiment(config, tmp_path / "out", [])
    reference = tmp_path / "out" / "teacher" / "reference.json"
    said = json.loads(reference.read_text())
    reference.write_text(
        json.dumps({k: v for k, v in said.items() if k not in ("sha256", "files")})
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        runs = [("disback", 0), ("fixed", 0)]
        run_side_by_side(config, tmp_path / "out", runs, 2, Interrupt())
    told = [record.getMessage() for record in caplog.records]
    assert sum("kept no digests" in line for line in told) == 1
    assert sum("training ended while node 1 answers" in line for line in told) == 1
    assert any(line.startswith("disback-seed0: training ended") for line in told)
