import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from disback_plugin import sealed
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


def _flip(data: bytes) -> bytes:
    return data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]


DAMAGE: dict[str, tuple[str, Callable[[bytes], bytes] | None, str]] = {
    "no manifest": ("manifest.json", None, "missing"),
    "half a manifest": ("manifest.json", lambda data: data[:20], "not valid JSON"),
    "another step": ("manifest.json", lambda data: data.replace(b": 20", b": 21"), "its SHA-256"),
    "another key": ("manifest.json", lambda data: data.replace(b"files", b"filet"), "its SHA-256"),
    "no seal": ("manifest.json", lambda data: data.replace(b'"sha256": "', b'"sha25v": "'), "name"),
    "no text": ("manifest.json", lambda data: data.replace(b"ver", b"ve\xf3"), "can't decode"),
    "no object": ("manifest.json", lambda data: b"[]", "not a JSON object"),
    "no state": ("state.json", None, "missing"),
    "a flipped state": ("state.json", _flip, "its SHA-256"),
    "flipped tensors": ("student.safetensors", _flip, "its SHA-256"),
    "cut tensors": ("student.safetensors", lambda data: data[:-1], r"\d+ bytes instead of \d+"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_is_an_error_that_names_the_file_and_deletes_nothing(
    tmp_path: Path, how: str
) -> None:
    """No kill leaves half a checkpoint under its name: whatever is not whole there is damage."""
    name, change, seen = DAMAGE[how]
    folder = _saved(tmp_path, 10, 20)
    file = folder.folder / "step_000020" / name
    if change is None:
        file.unlink()
    else:
        before = file.read_bytes()
        file.write_bytes(change(before))
        assert file.read_bytes() != before
    there = sorted(folder.folder.rglob("*"))
    advice = "delete .*step_000020 to go on from step_000010"
    with pytest.raises(RunError, match=rf"step_000020/{name} is .*{seen}.*{advice}"):
        folder.latest()
    with pytest.raises(RunError, match="step_000020 is there, though .*earlier step"):
        folder.save(_checkpoint(20))
    assert sorted(folder.folder.rglob("*")) == there
    shutil.rmtree(file.parent)
    assert _step(folder) == 10


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 10)
    (folder.folder / "step_000010").rename(folder.folder / "step_000030")
    with pytest.raises(RunError, match=r"manifest.json .*it is of step 10, .* is step_000030"):
        folder.latest()


def test_one_of_an_earlier_version_without_digest_is_read_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sealed, "_said", [])
    folder = _saved(tmp_path, 10)
    file = folder.folder / "step_000010" / "manifest.json"
    manifest = json.loads(file.read_text())
    del manifest["sha256"]
    file.write_text(json.dumps(manifest))
    assert _step(folder) == _step(folder) == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} is of an earlier version, which kept no digests: such files are not checked"
    ]


def test_what_is_not_provably_a_checkpoint_of_this_run_is_not_pruned(tmp_path: Path) -> None:
    folder, mine = _saved(tmp_path, 10, 20, keep=1), tmp_path / "mine"
    mine.mkdir()
    (folder.folder / "step_000001").symlink_to(mine)
    (folder.folder / "step_000002").mkdir()
    folder.save(_checkpoint(30))
    names = {file.name for file in folder.folder.iterdir()}
    assert names == {"step_000001", "step_000002", "step_000030"}


def test_a_kill_while_writing_leaves_the_one_before_and_no_litter(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 10)
    half = folder.folder / ".step_000020.tmp"
    half.mkdir()
    (half / "student.safetensors").write_bytes(b"half")
    assert _step(folder) == 10
    folder.save(_checkpoint(30))
    assert {file.name for file in folder.folder.iterdir()} == {"step_000010", "step_000030"}


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    folder = _saved(tmp_path, 10)
    manifest = folder.folder / "step_000010" / "manifest.json"
    sealed.write_sealed(manifest, {"version": 2, "step": 10, "files": {}})
    with pytest.raises(RunError, match="checkpoint format 2, this version reads 1"):
        folder.latest()
