"""EMA, optimizer state, metrics file and clean stop: the small parts of an exact resume."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.optim import SGD, AdamW

from disback_plugin.errors import RunError
from disback_plugin.lab.trainer.driver import Clock
from disback_plugin.lab.trainer.interrupt import Interrupt
from disback_plugin.lab.trainer.log import MetricsLog
from disback_plugin.lab.trainer.network import make_ema
from disback_plugin.tensors import pack_optimizer, unpack_optimizer
from tests.lab.trainer.conftest import lines


def _trained(seed: int, kind: str) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    module = nn.Linear(3, 2)
    optimizer: torch.optim.Optimizer = (
        AdamW(module.parameters(), lr=0.1, betas=(0.5, 0.9), fused=True)
        if kind == "adamw"
        else SGD(module.parameters(), lr=0.1, momentum=0.9)
    )
    return module, optimizer


def _step(module: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    module(torch.linspace(-1, 1, 6).reshape(2, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_an_optimizer_goes_on_bit_for_bit_through_safetensors_and_json(kind: str) -> None:
    module, optimizer = _trained(0, kind)
    for _ in range(3):
        _step(module, optimizer)
    other, fresh = _trained(1, kind)
    other.load_state_dict(module.state_dict())
    tensors, plain = pack_optimizer(optimizer)
    unpack_optimizer(fresh, load(save(tensors)), json.loads(json.dumps(plain)))
    for _ in range(2):
        _step(module, optimizer)
        _step(other, fresh)
    assert torch.equal(module.weight, other.weight)
    assert torch.equal(module.bias, other.bias)
    assert fresh.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]


def test_an_optimizer_state_of_other_parameters_is_refused() -> None:
    module, optimizer = _trained(0, "adamw")
    _step(module, optimizer)
    tensors, plain = pack_optimizer(optimizer)
    wider = AdamW(nn.Linear(4, 2).parameters(), fused=True)
    with pytest.raises(RunError, match=r"'0.exp_avg' has shape \(2, 3\)"):
        unpack_optimizer(wider, tensors, plain)
    more = AdamW(nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)).parameters(), fused=True)
    with pytest.raises(RunError, match="other parameter groups"):
        unpack_optimizer(more, tensors, plain)


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
