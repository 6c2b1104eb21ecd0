"""Files are whole or refused: the reader of safetensors says which file and why."""

import pytest
import torch

from disback_plugin.errors import RunError
from disback_plugin.files import read_metadata, read_tensors, write_tensors


def test_tensors_and_metadata_come_back_as_they_were_written(tmp_path):
    file = tmp_path / "a.safetensors"
    written = {"x": torch.tensor([1.5, -0.0]).bfloat16(), "n": torch.tensor(7)}
    size, digest = write_tensors(file, written, {"who": "me"})
    assert size == file.stat().st_size
    tensors, metadata = read_tensors(file, digest=digest)
    assert metadata == read_metadata(file) == {"who": "me"}
    assert tensors.keys() == written.keys()
    for name, value in written.items():
        assert tensors[name].dtype is value.dtype
        assert torch.equal(tensors[name], value)


def test_a_missing_a_cut_and_a_changed_file_are_refused_in_the_callers_error(tmp_path):
    file = tmp_path / "a.safetensors"
    with pytest.raises(RunError, match=r"a\.safetensors is missing"):
        read_tensors(file, RunError)
    _, digest = write_tensors(file, {"x": torch.ones(3)})
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"a\.safetensors is no whole safetensors file"):
        read_metadata(file, RunError)
    with pytest.raises(RunError, match=r"a\.safetensors is damaged: its SHA-256"):
        read_tensors(file, RunError, digest=digest)
