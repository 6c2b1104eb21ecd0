"""Damage to a path on disk: each kind is noticed and named, and what can be repaired is."""

import pytest
from safetensors.torch import load_file, save_file

from disback_plugin import DegradationPath
from disback_plugin.errors import PathError
from tests.path.folders import damage_in_place, edit, names
from tests.toy import same


def test_a_flipped_byte_is_noticed(path, teacher):
    file = path.folder / "node_0002.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 0x40
    file.write_bytes(content)
    again = DegradationPath.open(path.folder, teacher)
    with pytest.raises(PathError, match=r"node_0002.safetensors is damaged: its checksum"):
        again.read(2)
    assert len(again.verify()) == 1
    assert "node_0002" in again.verify()[0]


@pytest.mark.parametrize("given", [True, False])
def test_damage_to_the_kept_teacher_after_it_was_opened_is_noticed(
    tmp_path, teacher, nodes, codec, given
):
    folder = tmp_path / "path"
    made = DegradationPath.create(folder, teacher, codec=codec, keep_teacher=True)
    made.append(nodes[0], step=1)
    path = DegradationPath.open(folder, teacher if given else None)
    assert same(path.read(0), teacher)
    decoded = path.read(1)
    damage_in_place(folder / "teacher.safetensors")  # in "3.weight"
    with pytest.raises(PathError, match="teacher.safetensors is damaged.*'3.weight'"):
        path.read(0)
    node = path.open_node(1)
    assert same({"0.weight": node["0.weight"]}, {"0.weight": decoded["0.weight"]})
    if codec == "full":
        assert same(path.read(1), decoded)
        return
    for look in (node.verify, lambda: node["3.weight"], lambda: path.append(nodes[1], step=2)):
        with pytest.raises(PathError, match="teacher.safetensors is damaged.*'3.weight'"):
            look()
    assert names(folder) == ["node_0001.safetensors", "path.json", "teacher.safetensors"]


def test_a_torn_node_is_noticed(path, teacher):
    file = path.folder / "node_0003.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(PathError, match=r"node_0003.safetensors is torn: \d+ bytes"):
        DegradationPath.open(path.folder, teacher).read(3)


def test_a_missing_node_is_noticed(path, teacher):
    (path.folder / "node_0001.safetensors").unlink()
    with pytest.raises(PathError, match="node_0001.safetensors is missing"):
        DegradationPath.open(path.folder, teacher).read(1)


def test_a_gap_in_the_manifest_is_noticed(path):
    edit(path.folder, lambda data: data["nodes"].pop(1))
    with pytest.raises(PathError, match="entry 2 is node 3: a node is missing"):
        DegradationPath.open(path.folder)


@pytest.mark.parametrize("version", [0, 4, "1", None])
def test_another_format_version_is_refused(path, version):
    edit(path.folder, lambda data: data.update(format_version=version))
    with pytest.raises(PathError, match="format version .*reads versions 1 to 3"):
        DegradationPath.open(path.folder)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data.pop("teacher"),
        lambda data: data["nodes"][0].pop("sha256"),
        lambda data: data["nodes"][0].update(file="../elsewhere.safetensors"),
        lambda data: data.update(surprise=1),
    ],
)
def test_a_malformed_manifest_is_refused(path, break_it):
    edit(path.folder, break_it)
    with pytest.raises(PathError, match=r"path.json is damaged"):
        DegradationPath.open(path.folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_a_manifest_that_is_no_json_object_is_refused(path, content):
    (path.folder / "path.json").write_bytes(content)
    with pytest.raises(PathError, match=r"path.json"):
        DegradationPath.open(path.folder)


@pytest.mark.parametrize("rename", [True, False])
def test_such_a_node_written_by_someone_else_is_refused_on_reading(path, teacher, rename):
    # a well-formed file with a correct checksum, but the wrong tensors
    file = path.folder / "node_0001.safetensors"
    tensors = load_file(file)
    tensors["0.renamed" if rename else "0.bias"] = tensors.pop("0.bias").reshape(2, 4)
    save_file(tensors, file)
    import hashlib

    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    size = file.stat().st_size
    edit(path.folder, lambda data: data["nodes"][0].update(sha256=digest, bytes=size, header=None))
    again = DegradationPath.open(path.folder, teacher)
    with pytest.raises(PathError, match=r"0.renamed" if rename else r"shape \(2, 4\)"):
        again.read(1)


def test_repair_drops_leftovers_and_a_torn_last_node_only(path, teacher):
    (path.folder / ".tmp-99-node_0004.safetensors").write_bytes(b"half")
    (path.folder / "node_0004.safetensors").write_bytes(b"unlisted")
    last = path.folder / "node_0003.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    again = DegradationPath.open(path.folder, teacher)
    assert len(again.verify()) == 3
    assert len(again.repair()) == 3
    assert again.verify() == []
    assert names(path.folder) == [*("node_0001.safetensors", "node_0002.safetensors", "path.json")]


def test_repair_refuses_to_hide_damage_in_the_middle(path, teacher):
    (path.folder / "node_0002.safetensors").unlink()
    again = DegradationPath.open(path.folder, teacher)
    with pytest.raises(PathError, match=r"node_0002.*truncate\(1\)"):
        again.repair()
    assert len(again) == 3


def test_a_folder_without_a_manifest_is_no_path(tmp_path):
    with pytest.raises(PathError, match=r"no degradation path: it has no path.json"):
        DegradationPath.open(tmp_path)
