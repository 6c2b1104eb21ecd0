"""What joins a host's checkpoint: whole, of this folder, and not gone on with in mid-recording."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin import DisBack
from disback_plugin.adapters.overlay import side_file
from disback_plugin.errors import SessionError
from tests.session.common import attach, settings
from tests.toy import ToyHost


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[int], Path]:
    """A checkpoint's folder after so many steps, of which six record."""

    def save(num_steps: int) -> Path:
        host = ToyHost()
        session: DisBack = attach(host, settings(tmp_path))
        host.run(session, range(num_steps))
        side_file.write(tmp_path / "checkpoint-12", session)
        states = [{"noise": torch.arange(4.0)}]
        side_file.write_ranks(tmp_path / "checkpoint-12" / "ranks.safetensors", states)
        return tmp_path / "checkpoint-12"

    return save


def read(folder: Path) -> Any:
    found = side_file.read(folder)
    assert found is not None
    return found, side_file.read_own_rank(folder / "ranks.safetensors")["noise"].tolist()


def read_or_told(folder: Path, name: str) -> Any:
    try:
        return read(folder)
    except SessionError as error:
        return "told" if name in str(error) else str(error)


@pytest.mark.parametrize("name", ["disback.json", "ranks.safetensors"])
def test_any_flipped_bit_is_named_or_changes_nothing(
    name: str, saved: Callable[[int], Path]
) -> None:
    folder = saved(7)
    whole, data = read(folder), (folder / name).read_bytes()
    for place in range(len(data)):
        for bit in (0, place % 8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            (folder / name).write_bytes(changed)
            assert read_or_told(folder, name) in (whole, "told")


def test_files_of_two_checkpoints_are_not_mixed(saved: Callable[[int], Path]) -> None:
    folder = saved(7)
    other = folder.rename(folder.with_name("checkpoint-24"))
    for work in (
        lambda: side_file.read(other),
        lambda: side_file.read_own_rank(other / "ranks.safetensors"),
    ):
        with pytest.raises(SessionError, match="was written for checkpoint-12, not for this"):
            work()
    read(other.rename(folder.with_name("best2")))  # a name that says no step of the host's


def test_what_an_earlier_version_wrote_is_read(saved: Callable[[int], Path]) -> None:
    folder = saved(7)
    file = folder / "disback.json"
    data = json.loads(file.read_text())
    state = {key: data["state"][key] for key in ("version", "settings", "teacher", "progress")}
    file.write_text(json.dumps({"node": data["node"], "state": state}))
    found = side_file.read(folder)
    assert found is not None
    assert (found.node, found.state) == (3, state)


@pytest.mark.parametrize(
    ("num_steps", "recording"), [(1, True), (5, True), (6, False), (14, False)]
)
def test_a_recording_is_gone_on_with_by_a_session_alone(
    num_steps: int, recording: bool, saved: Callable[[int], Path]
) -> None:
    found = side_file.read(saved(num_steps))
    assert found is not None
    assert found.recording == recording
    if recording:
        with pytest.raises(SessionError, match="saved while recording.*Resume it with --disback"):
            found.refuse_recording("checkpoint-12")
    else:
        found.refuse_recording("checkpoint-12")
