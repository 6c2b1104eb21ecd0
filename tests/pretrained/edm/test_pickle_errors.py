"""Damaged files, files of other formats and tensors that do not fit: each has its own words."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import (
    dump,
    edm_file,
    network,
    persistent,
    state,
    stored,
    tensor,
)
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from disback_plugin.pretrained.edm.pickle_reader.source import ByteSource, Span
from tests.pretrained.edm.pickle_files import small_pickles, tiny, write


def assert_refused(folder: Path, data: bytes, pattern: str, **options: Any) -> None:
    file = write(folder, data)
    with pytest.raises(CheckpointError, match=pattern) as raised:
        read_edm_pickle(file, **options)
    assert str(raised.value).startswith(f"{file}: ")


def test_a_file_cut_anywhere_is_damaged(tmp_path):
    data = edm_file(tiny())
    for length in range(0, len(data), 13):
        assert_refused(tmp_path, data[:length], "damaged|truncated|is not a pickle")


def test_bytes_gone_while_the_file_is_read_are_noticed(tmp_path):
    file = write(tmp_path, edm_file(tiny()))
    with file.open("rb") as stream:
        source = ByteSource(Span(stream, 0, file.stat().st_size + 10))
        with pytest.raises(CheckpointError, match="truncated while it was read"):
            source.take(file.stat().st_size + 1)


def torch_save(value: Any, zipped: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


STYLEGAN = {name: persistent("Generator", state()) for name in ("G", "D", "G_ema")}
NOT_EDM = {
    "zip": (torch_save({"ema": 1}, zipped=True), "zip archive"),
    "text": (b"hello", "is not a pickle"),
    "empty": (b"", "is not a pickle"),
    "old protocol": (b"\x80\x01}.", "pickle protocol 1"),
    "newer protocol": (b"\x80\x06}.", "pickle protocol 6; 2 to 5 are known"),
    "old torch.save": (torch_save({"ema": 1}, zipped=False), "holds one int"),
    "StyleGAN": (dump(STYLEGAN), "has no 'ema'; it has G, D, G_ema"),
    "nothing": (dump({}), "has no 'ema'; it has nothing"),
    "a list": (dump([1]), "holds one list"),
    "the network alone": (dump(tiny()), "holds one Module, not a dictionary with 'ema'"),
    "another class": (dump({"ema": STYLEGAN["G"]}), "holds a Generator under 'ema'.*EDMPrecond"),
    "a number": (dump({"ema": 1}), "holds a int under 'ema'"),
    "a tensor": (dump({"ema": tensor(torch.ones(1))}), "holds a StoredTensor under 'ema'"),
    "old persistence": (edm_file(persistent("G", state(), 5)), "G of persistence version 5"),
    "a name not to print": (
        edm_file(network("EDMPrecond", {}, {"\x1b[2J": torch.ones(1)})),
        r"a tensor of the name \\x1b\[2J",
    ),
    "two tensors of a name": (
        edm_file(
            persistent(
                "EDMPrecond", state({"a": tensor(torch.ones(1))}, {"a": tensor(torch.ones(1))})
            )
        ),
        "has two tensors 'a'",
    ),
    "no arguments": (edm_file(persistent("EDMPrecond", state())), "does not tell the arguments"),
    "big-endian": (
        edm_file(tiny(x=stored(small_pickles(little_endian=False), (4,), (1,)))),
        "big-endian",
    ),
}


@pytest.mark.parametrize("name", NOT_EDM)
def test_other_files_are_told_apart(tmp_path, name):
    assert_refused(tmp_path, *NOT_EDM[name])


def test_another_key_is_asked_for_by_name(tmp_path):
    data = edm_file(1, raw=tiny())
    assert "model.weight" in read_edm_pickle(write(tmp_path, data), key="raw").tensors
    assert_refused(tmp_path, data, "has no 'teacher'; it has ema, loss_fn", key="teacher")


FOUR = small_pickles() + (4).to_bytes(8, "little") + bytes(16)
WRONG_TENSORS = {
    "too large": (stored(FOUR, (5,), (1,)), "size 5 does not fit its storage of 4"),
    "offset": (stored(FOUR, (4,), (1,), 1), "size 4 does not fit"),
    "stride": (stored(FOUR, (2, 2), (4, 1)), "size 2x2 does not fit"),
    "endless stride": (stored(FOUR, (1,), (2**30,)), "size 1, strides or offset"),
    "negative": (stored(FOUR, (4,), (-1,)), "size 4, strides or offset"),
    "dimensions": (stored(FOUR, (2, 2), (1,)), "not whole numbers"),
    "float": (stored(FOUR, (4.0,), (1,)), "not whole numbers"),
    "empty": (stored(FOUR, (0,), (1,)), "size 0 does not fit"),
    "overlapping": (stored(FOUR, (4, 4), (1, 0)), "size 4x4 does not fit"),
    "short storage": (stored(FOUR[:-1], (4,), (1,)), "storage of 4 Float numbers has 15 bytes"),
    "long storage": (stored(FOUR + b"x", (4,), (1,)), "4 Float numbers has 17 bytes"),
    "another key": (
        stored(FOUR.replace(dump(["1"], 2), dump(["2"], 2)), (4,), (1,)),
        "a storage of 4 Float numbers",
    ),
    "not a storage": (stored(b"hello", (4,), (1,)), "damaged|opcode"),
    "no magic": (stored(dump(1) + dump(2), (4,), (1,)), "torch.save's old format"),
}


@pytest.mark.parametrize("name", WRONG_TENSORS)
def test_tensors_that_do_not_fit_their_storage_are_refused(tmp_path, name):
    value, pattern = WRONG_TENSORS[name]
    assert_refused(tmp_path, edm_file(tiny(**{"model.x": value})), pattern)
