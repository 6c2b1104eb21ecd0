from pathlib import Path

import pytest
import torch

from disback_plugin.errors import RunError
from disback_plugin.lab.trainer.checkpoint import Checkpoint, CheckpointFolder


def _checkpoint(step: int) -> Checkpoint:
    weights = {"w": torch.full((4, 3), float(step)), "n": torch.tensor(step)}
    return Checkpoint(step, {"seconds": 1.5, "nested": {"a": [step]}}, {"student": weights})


def _saved(tmp_path: Path, *steps: int, keep: int = 3) -> CheckpointFolder:
    folder = CheckpointFolder(tmp_path / "checkpoints", keep)
    for step in steps:
        folder.save(_checkpoint(step))
    return folder


def _step(folder: CheckpointFolder) -> int | None:
    found = folder.latest()
    return None if found is None else found.step


def test_a_checkpoint_reads_back_bit_for_bit_and_is_these_files(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 100)
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {
        f"checkpoints/step_000100/{name}"
        for name in ("manifest.json", "state.json", "student.safetensors")
    }
    found = folder.latest()
    assert found is not None
    assert (found.step, found.state) == (100, {"seconds": 1.5, "nested": {"a": [100]}})
    assert torch.equal(found.tensors["student"]["w"], torch.full((4, 3), 100.0))
    assert found.tensors["student"]["n"].item() == 100


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 5, 10, 1000000, keep=2)
    names = {file.name for file in folder.folder.iterdir()}
    assert names == {"step_000010", "step_1000000"}
    assert _step(folder) == 1000000


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").latest() is None


def _tear(folder: Path, how: str) -> None:
    if how == "truncated":
        file = folder / "student.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "torn manifest":
        (folder / "manifest.json").write_text('{"version": 1, "fi')
    else:
        (folder / how).unlink()


@pytest.mark.parametrize(
    "how", ["manifest.json", "state.json", "student.safetensors", "truncated", "torn manifest"]
)
def test_a_torn_checkpoint_is_skipped_and_its_step_written_again(tmp_path: Path, how: str) -> None:
    folder = _saved(tmp_path, 10, 20)
    _tear(folder.folder / "step_000020", how)
    with pytest.warns(UserWarning, match=r"step_000020 is incomplete"):
        assert _step(folder) == 10
    folder.save(_checkpoint(20))
    assert _step(folder) == 20


def test_a_kill_while_writing_leaves_the_one_before_and_no_litter(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 10)
    half = folder.folder / ".step_000020.tmp"
    half.mkdir()
    (half / "student.safetensors").write_bytes(b"half")
    assert _step(folder) == 10
    folder.save(_checkpoint(30))
    assert {file.name for file in folder.folder.iterdir()} == {"step_000010", "step_000030"}


@pytest.mark.parametrize("name", ["student.safetensors", "state.json"])
def test_a_flipped_byte_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = _saved(tmp_path, 10, 20)
    file = folder.folder / "step_000020" / name
    data = bytearray(file.read_bytes())
    data[-2] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(RunError, match=f"{name} is damaged"):
        folder.latest()


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 10)
    manifest = folder.folder / "step_000010" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(RunError, match="checkpoint format 2, this version reads 1"):
        folder.latest()
