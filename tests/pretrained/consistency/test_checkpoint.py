"""OpenAI's files are read as tensors and nothing else; anything else gets a clear word."""

import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.consistency import read_openai_checkpoint

SMALLEST = {"time_embed.0.weight": torch.ones(4, 2), "input_blocks.0.0.weight": torch.ones(2, 3)}


class Poison:
    """Unpickled, it would make a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def saved(data: object, file: Path, **how: bool) -> Path:
    torch.save(data, file, **how)
    return file


@pytest.mark.parametrize("zipped", [True, False])
def test_both_formats_of_torch_are_read(tmp_path: Path, zipped: bool) -> None:
    file = saved(SMALLEST, tmp_path / "cd.pt", _use_new_zipfile_serialization=zipped)
    read = read_openai_checkpoint(file)
    assert list(read) == list(SMALLEST)
    assert all(torch.equal(read[name], SMALLEST[name]) for name in SMALLEST)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([torch.ones(2)], "holds a list, not tensors by name"),
        ({"model": SMALLEST}, "not a flat dict of tensors: 'model' is a dict"),
        ({**SMALLEST, "step": 7}, "not a flat dict of tensors: 'step' is a int"),
        ({**SMALLEST, 3: torch.ones(1)}, "not a flat dict of tensors: 3 is a Tensor"),
        ({**SMALLEST, "ids": torch.ones(1, dtype=torch.long)}, "tensor 'ids' is torch.int64"),
        ({**SMALLEST, "out": torch.ones(1, device="meta")}, "'out' is sparse or has no numbers"),
        ({**SMALLEST, "out": torch.ones(2, 2).to_sparse()}, "'out' is sparse or has no numbers"),
        ({**SMALLEST, "out": torch.ones(1).expand(10**6, 10**6)}, r"more than its .* they overlap"),
        ({"conv_in.weight": torch.ones(1)}, "no tensor 'time_embed.0.weight' .*: conv_in.weight"),
        ({}, "has no tensor 'time_embed.0.weight' .*: none"),
    ],
)
def test_what_is_no_flat_dict_of_its_tensors_is_named(
    tmp_path: Path, data: object, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_openai_checkpoint(saved(data, tmp_path / "cd.pt"))


def test_other_formats_are_told_apart(tmp_path: Path) -> None:
    save_file(SMALLEST, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a safetensors file, not OpenAI's .pt"):
        read_openai_checkpoint(tmp_path / "model.safetensors")
    (tmp_path / "edm.pkl").write_bytes(pickle.dumps({"ema": 1}))
    with pytest.raises(CheckpointError, match="not written by torch.save, .* edm-pkl:FILE"):
        read_openai_checkpoint(tmp_path / "edm.pkl")
    with pytest.raises(CheckpointError, match="nowhere.pt does not exist"):
        read_openai_checkpoint(tmp_path / "nowhere.pt")


def test_a_truncated_file_is_incomplete(tmp_path: Path) -> None:
    file = saved(SMALLEST, tmp_path / "cd.pt")
    whole = file.read_bytes()
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        with pytest.raises(
            CheckpointError, match="is incomplete or damaged|not written by torch.save|is empty"
        ):
            read_openai_checkpoint(file)


def test_poison_is_refused_by_name_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for data in (
        Poison(marker),
        {**SMALLEST, "out": Poison(marker)},
        {**SMALLEST, "out": {"inner": [Poison(marker)]}},
    ):
        for zipped in (True, False):
            file = saved(data, tmp_path / "cd.pt", _use_new_zipfile_serialization=zipped)
            with pytest.raises(
                CheckpointError, match=r"asks to run (posix|nt).mkdir, and only tensors"
            ):
                read_openai_checkpoint(file)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Poison(marker)))
    assert marker.exists()  # the poison works


@pytest.mark.filterwarnings("ignore:Detected pickle protocol", "ignore:TypedStorage")
def test_damaged_bytes_are_read_as_tensors_or_refused(tmp_path: Path) -> None:
    marker, file, draw = tmp_path / "ran", tmp_path / "cd.pt", random.Random(0)
    outcomes = set()
    for data in (SMALLEST, {**SMALLEST, "out": Poison(marker)}):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(data, buffer, _use_new_zipfile_serialization=zipped)
            for _ in range(150):
                damaged = bytearray(buffer.getvalue())
                for _ in range(draw.randint(1, 4)):
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
                file.write_bytes(damaged)
                try:
                    read = read_openai_checkpoint(file)
                except CheckpointError:
                    outcomes.add("refused")
                else:
                    outcomes.add("read")
                    assert all(isinstance(value, torch.Tensor) for value in read.values())
    assert outcomes == {"refused", "read"}
    assert not marker.exists()
