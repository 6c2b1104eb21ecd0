"""Tables of tensors compared: what does not fit is named; and an optimizer's state as one."""

import json

import pytest
import torch
from safetensors.torch import load, save
from torch import nn
from torch.optim import SGD, AdamW

from disback_plugin.errors import RunError
from disback_plugin.tensors import misfit, pack_optimizer, under, unpack_optimizer


def test_a_misfit_names_what_is_missing_unexpected_and_reshaped_with_counts():
    due = {"a": (2, 3), "b": torch.zeros(4), "c": (), "d": [5], "e": (1,)}
    given = {"a": torch.zeros(2, 3), "b": (5,), "d": (6,), "x": (), "y": (), "z": (), "w": ()}
    assert misfit(due, given) == (
        "missing ['c', 'e'] (2 in all), unexpected ['w', 'x', 'y'] (4 in all), "
        "'b' has shape (5,), expected (4,) (2 in all)"
    )
    assert misfit(due, {**due, "e": (2,)}) == "'e' has shape (2,), expected (1,)"
    assert misfit(due, dict(reversed(due.items()))) is None


def test_names_under_a_prefix_lose_it():
    assert list(under("net/", {"net/a": torch.ones(1), "net": torch.ones(1)})) == ["a"]


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
