"""Files are whole or refused: the reader of safetensors says which file and why."""

import os
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from disback_plugin.errors import RunError
from disback_plugin.files import (
    leftover_temps,
    naming,
    read_metadata,
    read_tensors,
    write_json,
    write_tensors,
    write_text,
)
from disback_plugin.foreign_weights import read_weights
from disback_plugin.sealed import read_sealed, write_sealed


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


JSON_DAMAGE = [
    (lambda text: b"", "not valid JSON"),
    (lambda text: text[: len(text) // 2], "not valid JSON"),
    (lambda text: b"\xff" + text, "UnicodeDecodeError"),
    (lambda text: text.replace(b"12", b"13"), "its SHA-256 is not the one"),
    (lambda text: text.replace(b"step", b"stop"), "its SHA-256 is not the one"),
    (lambda text: text.replace(b"sha256", b"sha257"), "its digest has the name 'sha257'"),
    (lambda text: b"[" * 10**5, "RecursionError"),
    (lambda text: b" " * (1 << 25) + text, "bytes; at most"),
]


@pytest.mark.parametrize(("damage", "message"), JSON_DAMAGE)
def test_damaged_json_is_told_with_its_file_and_what_to_do(tmp_path, damage, message):
    file = tmp_path / "a.json"
    write_sealed(file, {"step": 12, "loss": 1e-5, "list": (1, 2)})
    assert read_sealed(file, RunError) == {"step": 12, "loss": 1e-5, "list": [1, 2]}
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RunError, match=rf"a\.json .*{message}.*do this"):
        read_sealed(file, RunError, "do this")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself", "nothing"])
def test_what_is_no_file_is_told_and_waits_for_nothing(tmp_path, kind):
    file = tmp_path / "a.json"
    make = {"pipe": lambda: os.mkfifo(file), "folder": file.mkdir}
    make |= {"link to itself": lambda: file.symlink_to(file), "nothing": lambda: None}
    make[kind]()
    for read in (read_sealed, read_tensors, read_weights):
        with pytest.raises(RunError, match=r"a\.json"):
            read(file, RunError)


def test_any_flipped_bit_of_a_sealed_file_is_damage(tmp_path):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"x": torch.arange(3.0)}, {"who": "me"}, seal=True)
    tensors, metadata = read_tensors(file, RunError, sealed=True)
    assert (tensors["x"].tolist(), metadata) == ([0.0, 1.0, 2.0], {"who": "me"})
    whole = file.read_bytes()
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(RunError, match=r"a\.safetensors"):
            read_tensors(file, RunError, sealed=True)


def test_an_older_file_without_a_seal_is_read(tmp_path):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"x": torch.ones(1)}, {"who": "me"})
    assert read_tensors(file, sealed=True)[1] == {"who": "me"}


def test_temps_of_a_dead_writer_give_way_and_those_of_others_stay(tmp_path):
    file, host = tmp_path / "a.json", socket.gethostname()
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".tmp-{host}-{dead.pid}-a.json").mkdir()
    living = [f".tmp-{host}-1-a.json", f".tmp-{host}-{dead.pid}-b-a.json", ".tmpAbc123"]
    for name in living:
        (tmp_path / name).touch()
    write_json(file, {})
    assert sorted(path.name for path in leftover_temps(tmp_path)) == sorted(living)


def test_a_failed_write_leaves_nothing_and_the_file_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"x": torch.ones(1)})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for write in (lambda: write_tensors(file, {"x": torch.zeros(1)}), lambda: write_json(file, {})):
        with pytest.raises(OSError, match="No space"):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    assert read_tensors(file)[0]["x"].tolist() == [1.0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_full_disk_is_told_with_the_file_by_text_and_by_tensors(tmp_path, monkeypatch):
    def in_full(target):
        (full := tmp_path / "full").unlink(missing_ok=True)
        full.symlink_to("/dev/full")
        return full

    with monkeypatch.context() as patch:
        patch.setattr("disback_plugin.files.temp_for", in_full)
        with pytest.raises(OSError, match="No space left") as raised:
            write_text(tmp_path / "a.json", "text" * 10_000)
    assert (raised.value.errno, raised.value.filename) == (28, str(tmp_path / "a.json"))
    with pytest.raises(OSError, match="No space left") as raised, naming(tmp_path / "b"):
        raise SafetensorError("Error while serializing: I/O error: full (os error 28)")
    assert (raised.value.errno, raised.value.filename) == (28, str(tmp_path / "b"))
