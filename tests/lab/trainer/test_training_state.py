"""EMA, metrics file and clean stop: the small parts of an exact resume."""

import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from disback_plugin.lab.trainer.driver import Clock
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.log import MetricsLog
from disback_plugin.lab.trainer.network import make_ema
from tests.lab.trainer.conftest import lines


def test_the_ema_starts_at_the_weights_and_follows_its_recurrence() -> None:
    module = nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(1.0)
    ema, expected = make_ema(module, 0.9), 1.0
    for value in (2.0, -1.0, 4.0):
        module.weight.data.fill_(value)
        ema.update_parameters(module)
        expected = 0.9 * expected + 0.1 * value
    assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)
    assert not ema.module.weight.requires_grad


def test_lines_after_the_checkpoint_are_cut_and_none_is_doubled(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    log.write({"step": 1})
    offset = log.offset()
    log.write({"step": 2})
    log.close()
    with file.open("a") as stream:
        stream.write('{"step": 3, "torn')
    resumed = MetricsLog(file, offset)
    resumed.write({"step": 2, "again": True})
    resumed.close()
    assert lines(file) == [{"step": 1}, {"step": 2, "again": True}]


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    log = MetricsLog(file)
    log.write({"loss": float("nan"), "metrics": {"fd": float("inf"), "ok": 1.5}})
    log.close()
    assert lines(file) == [{"loss": None, "metrics": {"fd": None, "ok": 1.5}}]


def test_the_first_signal_asks_the_second_stops_and_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_that_is_ignored_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGINT is in what a script starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert not interrupt.requested
            os.kill(os.getpid(), signal.SIGTERM)
            assert interrupt.requested
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_clock_counts_what_runs_and_carries_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    clock = Clock(torch.device("cpu"), seconds=5.0)
    now += 50  # before it runs: not counted
    with clock.running():
        now += 2
        with clock.stopped():
            now += 30  # an evaluation
        now += 1
        assert clock.seconds == 8.0
    now += 10
    assert clock.seconds == 8.0
