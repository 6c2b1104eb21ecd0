"""The repair `exact-resume`: the data's place and the random numbers, as if never stopped."""

import argparse
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from disback_plugin.adapters.overlay import side_file
from disback_plugin.adapters.swiftbrush.resume import Epochs
from disback_plugin.errors import SessionError

ARGS = argparse.Namespace(checkpointing_steps=1, max_train_steps=100)


def make_data() -> Epochs:
    return Epochs(DataLoader(torch.arange(10), batch_size=2, shuffle=True))


def seed() -> None:
    torch.manual_seed(3)
    random.seed(3)


def train(data: Epochs, num_steps: int, folder: Path | None = None) -> list[Any]:
    """What each step sees: its batch and two random numbers. Saves after the last one."""
    seen: list[Any] = []
    while True:
        for batch in data:
            seen.append((batch.tolist(), torch.rand(()).item(), random.random()))
            if len(seen) == num_steps:
                data.collect(len(seen), ARGS)
                if folder is not None:
                    data.save(str(folder))
                return seen


def test_each_pass_is_an_epoch_as_the_loader_alone_gives_it() -> None:
    seed()
    data = make_data()
    ours = [batch.tolist() for _ in range(3) for batch in data]
    assert len(data) == 5
    seed()
    loader = DataLoader(torch.arange(10), batch_size=2, shuffle=True)
    assert ours == [batch.tolist() for _ in range(3) for batch in loader]


@pytest.mark.parametrize("num_done", [1, 3, 5, 7, 10])
def test_a_resumed_run_sees_what_one_that_was_not_stopped_sees(
    tmp_path: Path, num_done: int
) -> None:
    seed()
    whole = train(make_data(), 13)
    seed()
    assert train(make_data(), num_done, tmp_path) == whole[:num_done]
    state = torch.get_rng_state(), random.getstate()
    seed()
    torch.rand(7)  # what building the networks draws
    data = make_data()
    torch.set_rng_state(state[0])  # as accelerate does on rank 0
    random.setstate(state[1])
    data.load(str(tmp_path))
    assert train(data, 13 - num_done) == whole[num_done:]


def test_numbers_drawn_while_saving_are_not_drawn_again(tmp_path: Path) -> None:
    seed()
    train(make_data(), 2, tmp_path)
    torch.rand(4)  # as saving an EMA does
    expected = torch.get_rng_state()
    make_data().load(str(tmp_path))
    assert torch.equal(torch.get_rng_state(), expected)


def test_it_collects_only_where_the_script_saves(tmp_path: Path) -> None:
    data = make_data()
    args = argparse.Namespace(checkpointing_steps=4, max_train_steps=6)
    due = []
    for step in range(1, 7):
        data.collect(step, args)
        try:
            data.save(str(tmp_path))
        except AssertionError:
            continue
        due.append(step)
    assert due == [4, 6]


def test_a_checkpoint_without_the_file_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = torch.get_rng_state()
    make_data().load(str(tmp_path))
    assert "has no exact_resume.safetensors: the data starts a new epoch" in caplog.text
    assert torch.equal(torch.get_rng_state(), before)


def test_every_rank_finds_its_own_and_another_number_of_them_is_refused(tmp_path: Path) -> None:
    states = [{"torch": torch.arange(3) + number, "data/a": torch.ones(1)} for number in range(2)]
    side_file.write_ranks(tmp_path / "one", states[:1])
    own = side_file.read_own_rank(tmp_path / "one")
    assert sorted(own) == ["data/a", "torch"]
    assert own["torch"].tolist() == [0, 1, 2]
    side_file.write_ranks(tmp_path / "two", states)
    with pytest.raises(SessionError, match="by 2 processes, this run has 1: resume with as many"):
        side_file.read_own_rank(tmp_path / "two")
