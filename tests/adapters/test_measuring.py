"""What every host's measure has in common: its own draws, a host that is left as it was."""

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from disback_plugin import distributed
from disback_plugin.adapters.overlay import measuring
from disback_plugin.adapters.overlay.measuring import Ask, HostMeasure, drawn
from disback_plugin.errors import DisBackError


class Host(nn.Module):
    """A network with dropout, beside one in eval mode; notes how it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
        self.still = nn.Dropout(0.5).eval()
        self.asked: list[int] = []

    def ask(self, network: nn.Module, num: int) -> tuple[Tensor, Tensor]:
        assert not any(part.training for part in self.modules())
        assert not torch.is_grad_enabled()
        self.asked.append(num)
        x0 = torch.randn(num, 3)
        return network(x0) - x0, x0


def test_draws_are_the_same_every_time_and_nobody_elses() -> None:
    host = Host()
    measure = HostMeasure([host.ask], host, 6)
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = torch.randn(3), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    first, again = measure(host.network), measure(host.network)
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert len(first[1].unique(dim=0)) == 16  # of all chunks
    assert torch.equal(torch.randn(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]


def test_modes_and_gradients_are_left_as_they_were_also_after_an_error() -> None:
    host = Host()
    host.network[0].weight.grad = torch.ones(3, 3)

    def fail(network: nn.Module, num: int) -> tuple[Tensor, Tensor]:
        torch.randn(1)
        raise RuntimeError("out of memory")

    state = torch.get_rng_state()
    HostMeasure([host.ask], host, 16)(host.network)
    with pytest.raises(RuntimeError, match="out of memory"):
        HostMeasure([fail], host, 16)(host.network)
    assert [part.training for part in host.modules()] == [True, True, True, True, False]
    assert torch.equal(host.network[0].weight.grad, torch.ones(3, 3))
    assert torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("batch_size", "num_ranks", "asked"),
    [
        (6, 1, [6, 6, 4]),  # 16 at least, no chunk above the host's batch
        (40, 1, [16]),
        (100, 1, [25]),  # a quarter of a batch, where that is more
        (6, 3, [6]),  # 18 on all ranks
        (1, 64, [1]),
    ],
)
def test_sixteen_samples_on_all_ranks_or_a_quarter_of_a_batch_on_each(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, num_ranks: int, asked: list[int]
) -> None:
    monkeypatch.setattr(measuring, "world_size", lambda: num_ranks)
    host = Host()
    HostMeasure([host.ask], host, batch_size)(host.network)
    assert host.asked == asked


@pytest.mark.parametrize(
    ("batch_size", "num_ranks", "asked"), [(6, 1, [4] * 4), (3, 1, [3, 1] * 4), (6, 16, [1] * 4)]
)
def test_of_every_kind_of_samples_as_many(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, num_ranks: int, asked: list[int]
) -> None:
    monkeypatch.setattr(measuring, "world_size", lambda: num_ranks)
    host, kinds = Host(), []

    def of_kind(kind: int) -> Ask:
        def ask(network: nn.Module, num: int) -> tuple[Tensor, Tensor]:
            kinds.append(kind)
            return host.ask(network, num)

        return ask

    first, *more = map(of_kind, range(4))
    HostMeasure([first, *more], host, batch_size)(host.network)
    assert host.asked == asked
    assert kinds == sorted(list(range(4)) * (len(asked) // 4))


def test_data_that_fails_is_told_to_all_ranks_before_a_network_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_another_that_fails(value: object, what: str) -> list[object]:
        return [value, (f"OSError while {what}", None)]

    monkeypatch.setattr(distributed, "_active", lambda: True)
    monkeypatch.setattr(distributed, "gather", with_another_that_fails)
    with pytest.raises(DisBackError, match="rank 1 failed while reading the host's data"):
        drawn(lambda: 3)


def test_each_rank_has_draws_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    host, samples = Host(), []
    for number in (0, 1):
        monkeypatch.setattr(measuring, "rank", lambda number=number: number)
        samples.append(HostMeasure([host.ask], host, 16)(host.network)[1])
    assert not torch.equal(*samples)
