"""The teacher's tensors are a mapped file of the path's folder: in memory once a machine."""

import gc
import os
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from disback_plugin import DegradationPath, DisBack
from disback_plugin.errors import PathError
from disback_plugin.path import TeacherReference
from tests.path.folders import damage_in_place
from tests.session.common import attach, settings
from tests.toy import ToyHost, network, same, tensors_of

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc")
SIZE = 1 << 24  # weights: 64 MiB, more than a heap keeps for reuse


def files_of(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


def is_mapped(value: torch.Tensor, file: Path) -> bool:
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(edge, 16) for edge in line.split()[0].split("-"))
        if begin <= value.data_ptr() < end:
            return line.endswith(str(file))
    return False


def anonymous_bytes() -> int:
    gc.collect()
    found = re.search(r"Anonymous:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    assert found
    return int(found[1]) * 1024


@LINUX
def test_a_run_holds_the_teacher_as_the_folders_file(tmp_path):
    host, original = ToyHost(), tensors_of(network(1))
    disback = attach(host, settings(tmp_path))
    held = disback.installation.reference.tensors
    file = tmp_path / "path" / "teacher.safetensors"
    assert not is_mapped(held["0.weight"], file)
    host.run(disback, range(7))
    assert is_mapped(held["0.weight"], file)
    state = disback.state_dict()
    reference = disback.installation.reference
    assert reference.fingerprint == TeacherReference.of(original).fingerprint
    disback.restore_teacher()
    assert same(tensors_of(host.teacher), original)

    resumed = attach(ToyHost(), settings(tmp_path))
    resumed.load_state_dict(state)
    assert is_mapped(resumed.installation.reference.tensors["0.weight"], file)
    assert same(dict(resumed.installation.reference.tensors), original)


@LINUX
def test_a_rank_keeps_no_copy_of_its_own(tmp_path):
    torch.manual_seed(0)
    roles = {name: nn.Linear(1 << 12, 1 << 12, bias=False) for name in ("teacher", "student")}
    roles["fake_score"] = nn.Linear(1 << 12, 1 << 12, bias=False)
    roles["fake_score"].load_state_dict(roles["teacher"].state_dict())
    before = anonymous_bytes()
    disback = DisBack.attach(roles=roles, config=settings(tmp_path))
    disback.begin_step(0)
    assert anonymous_bytes() - before < 0.5 * SIZE


def test_without_the_file_each_rank_keeps_its_copy_and_the_run_is_the_same(tmp_path, caplog):
    whole, alone = ToyHost(), ToyHost()
    whole.run(attach(whole, settings(tmp_path / "a")), range(14))
    with caplog.at_level("INFO", "disback"):
        alone.run(attach(alone, settings(tmp_path / "b", keep_teacher=False)), range(14))
    assert "keeps no teacher: each rank holds a copy of its own" in caplog.text
    assert same(tensors_of(whole.student), tensors_of(alone.student))
    nodes = [f"node_000{index}.safetensors" for index in (1, 2, 3, 4)]
    assert files_of(tmp_path / "b" / "path") == [*nodes, "path.json"]
    assert files_of(tmp_path / "a" / "path") == [*nodes, "path.json", "teacher.safetensors"]


def test_a_read_only_folder_is_reused(tmp_path):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    folder = tmp_path / "path"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    folder.chmod(0o500)
    try:
        again = ToyHost()
        again.run(attach(again, settings(tmp_path, record=None)), range(8))
    finally:
        folder.chmod(0o700)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.parametrize("codec", ["full", "delta"])
def test_damage_between_two_switches_is_an_error_before_anything_is_installed(tmp_path, codec):
    host = ToyHost()
    disback = attach(host, settings(tmp_path, codec=codec, prefetch=False))
    host.run(disback, range(7))
    before = tensors_of(host.teacher)
    damage_in_place(tmp_path / "path" / "teacher.safetensors")
    with pytest.raises(PathError, match="teacher.safetensors is damaged"):
        disback.restore_teacher()
    assert same(tensors_of(host.teacher), before)
    if codec == "delta":  # node 3 is relative to it
        with pytest.raises(PathError, match="teacher.safetensors is damaged"):
            disback.begin_step(8)
        assert same(tensors_of(host.teacher), before)


@pytest.mark.parametrize("damage", ["flip", "missing"])
def test_a_damaged_file_is_said_not_used_and_repaired(tmp_path, damage, caplog):
    host = ToyHost()
    host.run(attach(host, settings(tmp_path)), range(6))
    file = tmp_path / "path" / "teacher.safetensors"
    if damage == "flip":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        os.replace(file, tmp_path / "old")  # whoever has mapped the whole one keeps it
        file.write_bytes(content)
    else:
        file.unlink()
    again = attach(ToyHost(), settings(tmp_path, record=None))
    again.begin_step(0)
    assert f"{file} is {'damaged' if damage == 'flip' else 'missing'}" in caplog.text
    assert same(dict(again.installation.reference.tensors), tensors_of(network(1)))
    again.close()

    path = DegradationPath.open(tmp_path / "path")
    assert [str(file) in problem for problem in path.verify()] == [True]
    assert len(path.repair()) == 1
    assert path.verify() == []
    assert DegradationPath.open(tmp_path / "path").manifest.teacher.file is None
    assert not file.exists()
