"""What a run shows: a bar a run on a terminal, whole lines now and then in a log."""

import io
import json
import sys
from typing import Any

import pytest

from disback_plugin.lab.trainer import progress
from disback_plugin.lab.trainer.progress import Messages, Overview, Speed, make_progress
from tests.lab.trainer.conftest import tiny_config

NUMBERS = {"stage": "backtrack", "node": 3, "fake_loss": 0.25, "student_loss": None, "grad_norm": 2}


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def drive(clock: Clock, seconds_a_step: float, num_steps: int) -> None:
    """A run of 100 steps of 32 images."""
    line = make_progress(enabled=True, is_main=True)
    line.start("disback-seed0", 100, 0, 32)
    for step in range(1, num_steps + 1):
        clock.now += seconds_a_step
        line.step(step, NUMBERS if step % 5 == 0 else None)
    line.close()


def test_a_log_gets_a_whole_line_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    drive(clock, seconds_a_step=2, num_steps=40)  # 80 seconds
    shown = capsys.readouterr().err
    assert "\r" not in shown
    assert shown.splitlines() == [
        "disback-seed0: step 15 of 100, stage=backtrack node=3 fake_loss=0.25, 16 images/s, "
        "0:02:50 left",
        "disback-seed0: step 30 of 100, stage=backtrack node=3 fake_loss=0.25, 16 images/s, "
        "0:02:20 left",
    ]


def test_a_short_run_leaves_no_line_in_a_log(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    drive(clock, seconds_a_step=0.1, num_steps=100)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "160")
    line = make_progress(enabled=True, is_main=True)
    line.start("disback-seed0", 100, 40, 32)
    clock.now += 0.5
    line.step(50, NUMBERS)
    line._bar.refresh()  # type: ignore[attr-defined]
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("disback-seed0:  50%|")
    assert " left, stage=backtrack node=3 fake_loss=0.25 images/s=640" in last
    line.close()


def test_others_than_the_main_process_show_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    for enabled, is_main in ((False, True), (True, False)):
        line = make_progress(enabled, is_main)
        line.start("run", 10, 0, 8)
        clock.now += 1000
        line.step(5, NUMBERS)
        line.close()
    assert capsys.readouterr().err == ""


def test_the_speed_is_that_of_the_last_half_minute(clock: Clock) -> None:
    speed = Speed()
    assert speed.at(0) == 0
    for step in range(1, 101):  # a second a step, then a tenth of one
        clock.now += 1 if step <= 50 else 0.1
        last = speed.at(step)
    assert clock.now == pytest.approx(55)
    assert last == pytest.approx(75 / 30, rel=0.05)  # 25 of the slow steps, all the quick ones


def test_runs_side_by_side_have_a_line_each(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = io.BytesIO()
    messages = Messages(pipe)  # type: ignore[arg-type]
    messages.start("ignored", 100, 0, 32)
    messages.step(1, None)
    messages.step(20, NUMBERS)
    sent: list[dict[str, Any]] = [json.loads(line) for line in pipe.getvalue().splitlines()]
    assert [message["step"] for message in sent] == [0, 20]
    overview = Overview(tiny_config("logging.progress=true"))
    for message in sent:
        for name in ("fixed-seed0", "warm-seed0"):
            overview.step(name, message)
        clock.now += 40
    overview.done("fixed-seed0")
    overview.close()
    told = "step 20 of 100, stage=backtrack node=3 fake_loss=0.25, 16 images/s, 0:02:40 left"
    shown = capsys.readouterr().err.splitlines()
    assert shown == [f"fixed-seed0: {told}", f"warm-seed0: {told}", "fixed-seed0: done"]
