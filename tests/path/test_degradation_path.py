"""The path on disk: round trips, exact file sets, and what is refused before it is written."""

import os

import pytest
import torch

from disback_plugin import DegradationPath, files
from disback_plugin.errors import PathError
from disback_plugin.path import TeacherReference
from tests.path.folders import names
from tests.toy import network, same, tensors_of


def test_exactly_these_files_are_written(path):
    assert names(path.folder) == [
        *("node_0001.safetensors", "node_0002.safetensors", "node_0003.safetensors", "path.json")
    ]


def test_nodes_come_back_and_node_0_is_the_teacher(path, teacher, nodes, codec):
    again = DegradationPath.open(path.folder, teacher)
    assert again.complete
    assert [(entry.index, entry.step) for entry in again] == [(1, 10), (2, 20), (3, 30)]
    assert same(again.read(0), teacher)
    for index, node in enumerate(nodes, start=1):
        if codec == "full":
            assert same(again.read(index), node)
        else:
            bound = {"delta": 2**-8, "bounded": 0.1}[codec]
            for name, value in again.read(index).items():
                error, change = value - node[name], node[name] - teacher[name]
                assert error.float().norm() <= 1.01 * bound * change.float().norm()


def test_load_into_a_module_changes_it_to_the_node(path, nodes, codec):
    module = network(5)
    path.load_into(module, 2)
    if codec == "full":
        assert same(tensors_of(module), nodes[1])
    else:
        decoded = path.read(2)
        assert all(torch.equal(value, decoded[name]) for name, value in tensors_of(module).items())


def test_load_into_another_architecture_is_refused_and_changes_nothing(path):
    module = network(5, width=6)
    before = tensors_of(module)
    with pytest.raises(PathError, match=r"'0.weight' has shape \(8, 4\), expected \(6, 4\)"):
        path.load_into(module, 1)
    with pytest.raises(PathError, match="missing .*unexpected"):
        path.load_into(torch.nn.Linear(2, 2), 1)
    assert same(before, tensors_of(module))


def test_an_index_out_of_range_is_refused(path):
    with pytest.raises(PathError, match=r"has nodes 0..3; there is no node 4"):
        path.read(4)


def test_the_path_of_another_teacher_is_refused_with_what_differs(path):
    with pytest.raises(PathError, match=r"another teacher: 4 of 9 tensors differ.*0\.bias"):
        DegradationPath.open(path.folder, tensors_of(network(3)))
    with pytest.raises(PathError, match="another teacher: of its 9 tensors, missing .*9 in all"):
        DegradationPath.open(path.folder, {"other": torch.zeros(1)})


def test_one_changed_bit_of_the_teacher_is_noticed(path, teacher):
    teacher["0.weight"].view(torch.int32)[0, 0] ^= 1
    with pytest.raises(PathError, match=r"1 of 9 tensors differ \(first: \['0.weight'\]\)"):
        DegradationPath.open(path.folder, teacher)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"0.weights": t.pop("0.weight")}), "missing.*0.weight.*0.weights"),
        (lambda t: t.pop("0.weight"), "missing.*0.weight"),
        (lambda t: t.update(extra=torch.zeros(1)), "unexpected.*extra"),
        (lambda t: t.update({"0.bias": torch.zeros(3)}), r"'0.bias' has shape \(3,\)"),
    ],
)
def test_a_node_with_a_renamed_missing_or_misshaped_tensor_is_refused(
    path, teacher, nodes, change, message
):
    node = dict(nodes[0])
    change(node)
    path.truncate(0)
    with pytest.raises(PathError, match=message):
        path.append(node, step=1)
    assert names(path.folder) == ["path.json"]


def test_equal_consecutive_nodes_mean_that_nothing_trains(tmp_path, teacher, nodes):
    path = DegradationPath.create(tmp_path / "p", teacher)
    with pytest.raises(PathError, match="equals the teacher"):
        path.append(teacher, step=1)
    path.append(nodes[0], step=2)
    with pytest.raises(PathError, match="equals node 1"):
        path.append(nodes[0], step=3)
    with pytest.raises(PathError, match="does not come after"):
        path.append(nodes[1], step=2)
    assert names(path.folder) == ["node_0001.safetensors", "path.json"]


def test_a_diverged_fake_score_is_not_recorded(tmp_path, teacher, nodes):
    path = DegradationPath.create(tmp_path / "p", teacher)
    nodes[0]["0.bias"][0] = float("nan")
    with pytest.raises(PathError, match="node_0001.safetensors is not finite"):
        path.append(nodes[0], step=1)
    assert names(path.folder) == ["path.json"]


def test_an_unfinished_path_says_so_and_an_empty_one_cannot_be_finished(tmp_path, teacher, nodes):
    path = DegradationPath.create(tmp_path / "p", teacher)
    with pytest.raises(PathError, match="no node"):
        path.finish()
    path.append(nodes[0], step=1)
    assert not DegradationPath.open(path.folder).complete


def test_a_folder_with_a_path_is_not_overwritten(path, teacher):
    with pytest.raises(PathError, match="already holds a path"):
        DegradationPath.create(path.folder, teacher)


def test_truncate_drops_files_and_completeness(path, teacher):
    path.truncate(1)
    assert names(path.folder) == ["node_0001.safetensors", "path.json"]
    assert not DegradationPath.open(path.folder, teacher).complete


def test_a_reader_sees_nodes_as_they_come_and_never_a_broken_path(tmp_path, teacher, nodes):
    writer = DegradationPath.create(tmp_path / "p", teacher)
    reader = DegradationPath.open(tmp_path / "p", teacher)
    for index, node in enumerate(nodes, start=1):
        writer.append(node, step=index)
        assert len(reader) == index - 1
        reader.refresh()
        assert same(reader.read(index), node)


def test_a_kept_teacher_makes_the_folder_self_contained(tmp_path, teacher, nodes, codec):
    path = DegradationPath.create(tmp_path / "p", teacher, codec=codec, keep_teacher=True)
    path.append(nodes[0], step=1)
    alone = DegradationPath.open(path.folder)
    assert same(alone.read(0), teacher)
    assert same(alone.read(1), path.read(1))


def test_delta_without_the_teacher_says_how_to_open_it(tmp_path, teacher, nodes):
    path = DegradationPath.create(tmp_path / "p", teacher, codec="delta")
    path.append(nodes[0], step=1)
    with pytest.raises(PathError, match=r"teacher=module.state_dict\(\)"):
        DegradationPath.open(path.folder).read(1)


def test_tied_weights_and_views_are_written_whole(tmp_path):
    base = torch.arange(8.0)
    teacher = {"a": base, "b": base, "c": base.view(2, 4).t()}
    path = DegradationPath.create(tmp_path / "p", teacher)
    node = {name: value + 1 for name, value in teacher.items()}
    path.append(node, step=1)
    assert same(path.read(1), {name: value.contiguous() for name, value in node.items()})


def test_the_reference_keeps_its_own_copy(teacher):
    reference = TeacherReference.of(teacher)
    before = reference.fingerprint
    teacher["0.weight"].add_(1)
    assert reference.fingerprint == before
    assert TeacherReference.of(teacher).fingerprint != before


def test_files_reach_the_disk_before_they_get_their_names(tmp_path, teacher, nodes, monkeypatch):
    events = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("sync"), real_fsync(fd)))
    monkeypatch.setattr(
        os, "replace", lambda a, b: (events.append(str(b).split("/")[-1]), real_replace(a, b))
    )
    path = DegradationPath.create(tmp_path / "p", teacher)
    events.clear()
    path.append(nodes[0], step=1)
    # file, then its name, then the folder; the manifest last
    assert events == [*("sync", "node_0001.safetensors", "sync"), *("sync", "path.json", "sync")]


def test_a_complete_path_takes_no_more_nodes(path, nodes):
    with pytest.raises(PathError, match="is complete"):
        path.append(nodes[0], step=99)


def test_node_files_may_be_read_by_whoever_may_read_other_new_files(tmp_path):
    file, other = tmp_path / "node.safetensors", tmp_path / "other"
    files.write_tensors(file, {"a": torch.zeros(1)})
    other.touch()
    assert file.stat().st_mode == other.stat().st_mode
