"""`disback path`: whatever lies on disk ends in words of ours that name the file, or is done."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin import DegradationPath
from disback_plugin.cli import main
from disback_plugin.path.writer_lock import WriterLock

TEACHER = {"w": torch.arange(1.0, 5.0)}


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def change(**values: object) -> Callable[[Path], None]:
    """A manifest of an earlier version, without a digest, with other values."""

    def damage(file: Path) -> None:
        data = json.loads(file.read_text())
        del data["sha256"]
        file.write_text(json.dumps({**data, **values}))

    return damage


def replace(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        file.unlink()
        make(file)

    return damage


def flip(file: Path) -> None:
    """One digit of the first node's step."""
    file.write_text(file.read_text().replace('"step": 1', '"step": 3'))


ANY = {
    "missing": Path.unlink,
    "empty": lambda file: write(file, b""),
    "cut": lambda file: write(file, file.read_bytes()[:-9]),
    "not UTF-8": lambda file: write(file, b"\xff\xfe" + file.read_bytes()),
    "a folder": replace(Path.mkdir),
    "a pipe": replace(os.mkfifo),
    "a link to itself": replace(lambda file: file.symlink_to(file)),
    "a link to nothing": replace(lambda file: file.symlink_to("nothing")),
}
NODE = {"index": 1, "step": 1, "file": "node_0001.safetensors", "bytes": 88, "sha256": 64 * "0"}
NODE |= {"distance": 1.0, "bf16_distance": 1.0, "bf16_survives": 1.0}
MANIFEST = {
    **ANY,
    "a digit": flip,
    "a list": lambda file: write(file, b"[1]"),
    "nested": lambda file: write(file, b"[" * 10**5),
    "no rows": change(tensors={"w": {"dtype": "float32", "shapa": [4]}}),
    "a negative shape": change(tensors={"w": {"dtype": "float32", "shape": [-4]}}),
    "tensors of another type": change(tensors=[1]),
    "nodes of another type": change(nodes={"index": 1}),
    "a distance that is no number": change(nodes=[{**NODE, "distance": float("nan")}]),
    "a file elsewhere": change(nodes=[{**NODE, "file": "../../x"}]),
    "steps that fall": change(nodes=[NODE, {**NODE, "index": 2}]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = DegradationPath.create(tmp_path / "path", TEACHER)
    path.append({"w": TEACHER["w"] + 1}, step=1)
    path.append({"w": TEACHER["w"] + 2}, step=2)
    path.finish()
    return path.folder


@pytest.mark.parametrize("action", ["show", "verify", "repair"])
@pytest.mark.parametrize("damage", MANIFEST)
def test_a_damaged_manifest_is_named_by_every_command(
    path: Path, action: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    MANIFEST[damage](path / "path.json")
    nodes = sorted(path.glob("node_*"))
    assert main(["path", action, str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("disback: error:")
    assert "path.json" in said
    assert sorted(path.glob("node_*")) == nodes  # nothing is dropped on its word


@pytest.mark.parametrize("damage", ANY)
def test_a_damaged_node_is_named_and_dropped_where_it_is_the_last(
    path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ANY[damage](path / "node_0002.safetensors")
    assert main(["path", "show", str(path)]) == 0
    assert main(["path", "verify", str(path)]) == 1
    assert "node_0002.safetensors" in capsys.readouterr().out
    assert main(["path", "repair", str(path)]) == 0
    assert main(["path", "verify", str(path)]) == 0
    assert sorted(file.name for file in path.iterdir()) == ["node_0001.safetensors", "path.json"]


@pytest.mark.parametrize("damage", [name for name in ANY if name != "missing"])
def test_a_damaged_file_is_not_imported_and_nothing_is_left(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(TEACHER, tmp_path / "teacher.safetensors")
    node = tmp_path / "checkpoint_model_000001"
    node.mkdir()
    file = node / "model_1.safetensors"
    save_file({"fake_unet.w": TEACHER["w"] + 1}, file)
    words = ["--teacher", str(tmp_path / "teacher.safetensors"), "--out", str(tmp_path / "out")]
    before = sorted(tmp_path.iterdir())
    ANY[damage](file)
    assert main(["path", "import", str(node), *words]) == 2
    assert str(node) in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("action", ["show", "verify", "repair"])
def test_a_file_or_nothing_in_place_of_a_path_is_told(
    tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "none"):
        assert main(["path", action, str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err


def test_a_path_that_is_moved_is_still_whole(path: Path) -> None:
    moved = path.rename(path.with_name("moved"))
    assert main(["path", "verify", str(moved)]) == 0


def test_a_path_that_is_being_written_is_not_repaired(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path / ".tmpAbc123").touch()
    lock = WriterLock(path)
    assert main(["path", "repair", str(path)]) == 2
    assert "is being written by another run or command" in capsys.readouterr().err
    assert (path / ".tmpAbc123").exists()
    lock.release()
    assert main(["path", "repair", str(path)]) == 0
    assert not (path / ".tmpAbc123").exists()
    assert not (path / ".lock").exists()
