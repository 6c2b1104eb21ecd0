"""`disback path convert`: the same nodes in another codec, what it says, and what it refuses."""

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin import DegradationPath
from disback_plugin.cli import main
from disback_plugin.errors import PathError
from disback_plugin.path import get_codec
from disback_plugin.path.conversion import convert
from tests.path.conftest import nodes_of
from tests.path.folders import names
from tests.toy import same

WIDE = {"w": (64, 64), "b": (64,), "count": ()}


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return {name: torch.randn(shape) if shape else torch.tensor(3) for name, shape in WIDE.items()}


@pytest.fixture
def nodes(teacher):
    return nodes_of(teacher, 2)


@pytest.fixture
def weights(tmp_path, teacher):
    save_file(teacher, tmp_path / "teacher.safetensors")
    return str(tmp_path / "teacher.safetensors")


@pytest.fixture
def full(tmp_path, teacher, nodes):
    path = DegradationPath.create(
        tmp_path / "full", teacher, recording={"student": 5, "at": [1, 2]}
    )
    for index, node in enumerate(nodes, start=1):
        path.append(node, step=index)
    path.finish()
    return path


def command(*words):
    return main(["path", "convert", *map(str, words)])


def test_a_full_path_becomes_a_bounded_one_and_says_bytes_and_error(
    tmp_path, full, teacher, nodes, weights, capsys
):
    out = tmp_path / "small"
    assert command(full.folder, out, "--codec", "bounded", "--teacher", weights) == 0
    made = DegradationPath.open(out, teacher)
    assert names(out) == ["node_0001.safetensors", "node_0002.safetensors", "path.json"]
    assert (made.manifest.codec, made.complete, made.student) == ("bounded", True, 5)
    assert made.verify() == []
    codec, said = get_codec("bounded"), capsys.readouterr().out.splitlines()
    for entry, before, node, line in zip(made, full, nodes, said[1:3], strict=True):
        decoded = codec.decode(codec.encode(node, teacher), teacher)
        assert same(made.read(entry.index), decoded)
        gaps = [
            torch.cat([(a[name] - b[name]).view(-1) for name in ("w", "b")]).norm()
            for a, b in ((decoded, node), (node, teacher))
        ]
        seen = f"{entry.index} {before.bytes:,} {entry.bytes:,} {gaps[0] / gaps[1]:.2%}"
        assert line.split() == seen.split()
    assert "before" not in said[-1]
    assert same(full.read(1), nodes[0])


def test_converted_back_the_path_says_what_it_has_lost_for_good(
    tmp_path, full, teacher, weights, capsys
):
    small, again = tmp_path / "small", tmp_path / "again"
    command(full.folder, small, "--codec", "bounded", "--teacher", weights)
    capsys.readouterr()
    assert command(small, again, "--codec", "full", "--teacher", weights) == 0
    assert "stored as 'bounded' before: what that lost stays lost, up to a tenth" in (
        capsys.readouterr().out
    )
    one, other = (DegradationPath.open(folder, teacher) for folder in (small, again))
    assert same(one.read(2), other.read(2))
    assert other.manifest.recording["converted_from"] == ["full", "bounded"]


def test_a_kept_teacher_is_used_and_kept(tmp_path, teacher, nodes):
    path = DegradationPath.create(tmp_path / "own", teacher, codec="delta", keep_teacher=True)
    path.append(nodes[0], step=1)
    path.finish()
    assert command(path.folder, tmp_path / "new", "--codec", "full") == 0
    assert same(DegradationPath.open(tmp_path / "new").read(0), teacher)


def test_what_cannot_be_converted_is_refused_and_nothing_is_left(
    tmp_path, full, nodes, teacher, weights, capsys
):
    def refused(*words):
        assert command(*words) == 2
        return capsys.readouterr().err

    new = tmp_path / "new"
    assert "does not keep its teacher: give --teacher" in refused(
        full.folder, new, "--codec", "delta"
    )
    known = ("--teacher", weights)
    assert "has the codec 'full' already" in refused(full.folder, new, "--codec", "full", *known)
    assert "is there already, and not empty" in refused(
        full.folder, full.folder, "--codec", "delta", *known
    )
    save_file(nodes[0], tmp_path / "other.safetensors")
    other = ("--teacher", tmp_path / "other.safetensors")
    assert "recorded from another teacher" in refused(full.folder, new, "--codec", "delta", *other)
    begun = DegradationPath.create(tmp_path / "begun", teacher)
    begun.append(nodes[0], step=1)
    assert "is unfinished" in refused(begun.folder, new, "--codec", "delta", *known)
    assert not new.exists()


def test_a_failure_on_the_way_leaves_nothing(tmp_path, full):
    file = full.folder / full.nodes[1].file
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    before = names(tmp_path)
    with pytest.raises(PathError, match="node_0002.safetensors is damaged"):
        convert(full, tmp_path / "new", "bounded", lambda node: None)
    assert names(tmp_path) == before


def test_a_converted_path_is_still_the_one_that_would_be_recorded(tmp_path, full):
    from disback_plugin.config import DisBackConfig
    from disback_plugin.recorded import _check_recording

    made = convert(full, tmp_path / "new", "delta", lambda node: None)
    settings = {"num_steps": 2, "at": [1, 2]}
    config = DisBackConfig(path=made.folder, record=settings)
    made.manifest.recording.update(config.recording_settings())
    _check_recording(made, config, 5)
