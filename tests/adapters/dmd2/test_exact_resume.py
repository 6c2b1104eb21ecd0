"""`Cycle` reads a loader as a loop over it does, and comes back to where it was."""

import argparse
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from disback_plugin.adapters.dmd2 import exact_resume
from disback_plugin.adapters.dmd2.exact_resume import Cycle


def loader() -> Any:
    return DataLoader(torch.arange(10), batch_size=3, shuffle=True, drop_last=True)


def looped(batches: Any) -> Any:
    while True:
        yield from batches


def draw(batches: Any, number: int) -> list[Tensor]:
    """Batches with a random number after each, as a training step draws its noise."""
    return [torch.cat([next(batches), torch.randint(1000, (1,))]) for _ in range(number)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_batches_and_the_random_numbers_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    expected = draw(looped(loader()), 10)
    torch.manual_seed(0)
    assert same(draw(Cycle(loader()), 10), expected)


def trainer(step: int) -> Any:
    args = argparse.Namespace(no_save=False, log_iters=1)
    return types.SimpleNamespace(args=args, step=step, data=Cycle(loader()), other=Cycle(loader()))


@pytest.mark.parametrize("num_before", [0, 1, 3, 4, 7])
def test_a_resumed_trainer_draws_what_the_first_would_have_drawn(
    num_before: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    first = trainer(step=20)
    draw(first.data, num_before)
    exact_resume.collect(first)
    folder = tmp_path / "not" / "yet"
    exact_resume.save(first, str(folder))
    expected = draw(first.data, 6) + draw(first.other, 2)
    torch.manual_seed(1)
    second = trainer(step=20)
    exact_resume.load(second, str(folder))
    assert second.step == 21
    drawn = (num_before - 1) % 3 + 1  # of the epoch of 3 batches that it stopped in
    assert (f"data replays {drawn} batches" in caplog.text) == (num_before > 0)
    assert same(draw(second.data, 6) + draw(second.other, 2), expected)


def test_a_checkpoint_without_the_file_resumes_in_the_hosts_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    second = trainer(step=20)
    exact_resume.load(second, str(tmp_path))
    assert second.step == 20
    assert torch.equal(before, torch.get_rng_state())


def test_nothing_is_collected_where_nothing_is_saved(tmp_path: Path) -> None:
    for changes in ({"no_save": True}, {"log_iters": 7}):
        first = trainer(step=20)
        vars(first.args).update(changes)
        exact_resume.collect(first)
        exact_resume.save(first, str(tmp_path))
    assert list(tmp_path.iterdir()) == []
