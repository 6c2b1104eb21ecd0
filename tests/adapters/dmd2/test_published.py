"""Nodes of the paper's published code: imported under the right names, or refused."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from disback_plugin import DegradationPath
from disback_plugin.adapters.dmd2.published import import_published, read_teacher
from disback_plugin.cli import main
from disback_plugin.errors import CheckpointError, PathError
from tests.toy import network, same, tensors_of


@pytest.fixture
def teacher():
    return tensors_of(network(1))


def fake_score(step):
    return {
        name: value + 1e-3 * step if value.is_floating_point() else value
        for name, value in tensors_of(network(1)).items()
    }


def guidance_model(step, prefix="fake_unet."):
    """A whole guidance model: the fake score, the frozen teacher and a classifier branch."""
    return {
        **{f"{prefix}{name}": value for name, value in fake_score(step).items()},
        **{f"{prefix.replace('fake', 'real')}{k}": v for k, v in tensors_of(network(1)).items()},
        "cls_pred_branch.0.weight": torch.zeros(2, 2),
    }


def write(root, step, tensors, name="pytorch_model_1.bin"):
    folder = root / f"checkpoint_model_{step:06d}"
    folder.mkdir()
    if name.endswith(".bin"):
        torch.save(tensors, folder / name)
    else:
        save_file(tensors, folder / name)
    return folder


@pytest.mark.parametrize("prefix", ["fake_unet.", "module.fake_unet."])
@pytest.mark.parametrize("name", ["pytorch_model_1.bin", "model_1.safetensors"])
def test_every_node_is_imported_with_the_teachers_names(tmp_path, teacher, prefix, name):
    steps = (200, 50, 100, 100_000)  # any order; more than five digits too
    folders = [write(tmp_path, step, guidance_model(step, prefix), name) for step in steps]
    import_published(folders, teacher, tmp_path / "path")
    path = DegradationPath.open(tmp_path / "path", teacher)
    assert path.complete
    assert [entry.step for entry in path] == sorted(steps)
    for entry in path:
        assert same(path.read(entry.index), fake_score(entry.step))


def test_the_published_codes_own_way_of_loading_them_changes_nothing(tmp_path, teacher):
    # why this module exists: the names match nothing, and non-strict loading hides it
    module = network(1)
    missing, unexpected = module.load_state_dict(guidance_model(50), **{"strict": False})
    assert set(missing) == {name for name in teacher if "num_batches" not in name}
    assert len(unexpected) == len(guidance_model(50))
    assert same(tensors_of(module), teacher)
    with pytest.raises(PathError, match="missing .*unexpected .*"):
        DegradationPath.create(tmp_path / "p", teacher).append(guidance_model(50), step=50)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"unet.w": torch.zeros(1)}, r"no tensor under .*names begin with \['unet'\]"),
        ({"fake_unet.w": torch.zeros(1)}, r"the teacher's 9 tensors .missing .*9 in all"),
        (
            {**guidance_model(5), "fake_unet.more": torch.zeros(1)},
            r"the teacher's 9 tensors .unexpected \['more'\]",
        ),
        ([1, 2], "holds a list, not tensors by name"),
        (
            {name: value.int() for name, value in guidance_model(5).items()},
            r"'0.weight' is int32, expected float32",
        ),
        (
            {name: value.to("meta") for name, value in guidance_model(5).items()},
            "sparse or has no numbers",
        ),
    ],
)
def test_folders_with_other_tensors_are_refused_and_nothing_is_written(
    tmp_path, teacher, tensors, message
):
    good = write(tmp_path, 1, guidance_model(1))
    bad = write(tmp_path, 2, tensors)
    with pytest.raises(PathError, match=message):
        import_published([good, bad], teacher, tmp_path / "path")
    assert {file.name for file in tmp_path.iterdir()} == {good.name, bad.name}


def test_misnamed_and_empty_folders_are_refused(tmp_path, teacher):
    (tmp_path / "checkpoint_model_000003").mkdir()
    with pytest.raises(PathError, match="holds none of pytorch_model_1.bin"):
        import_published([tmp_path / "checkpoint_model_000003"], teacher, tmp_path / "path")
    with pytest.raises(PathError, match="is not named checkpoint_model_0NNNNN"):
        import_published([tmp_path / "node7"], teacher, tmp_path / "path")
    with pytest.raises(PathError, match="at least one folder"):
        import_published([], teacher, tmp_path / "path")


class Poison:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('poisoned').touch()",))


def test_a_file_that_wants_to_run_code_is_refused(tmp_path, teacher, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "checkpoint_model_000001"
    folder.mkdir()
    (folder / "pytorch_model_1.bin").write_bytes(pickle.dumps({"fake_unet.w": Poison()}))
    with pytest.raises(PathError, match="is a pickle: not written by torch.save"):
        import_published([folder], teacher, tmp_path / "path")
    torch.save({"fake_unet.w": Poison()}, folder / "pytorch_model_1.bin")
    with pytest.raises(PathError, match="asks to run exec, and only tensors") as told:
        import_published([folder], teacher, tmp_path / "path")
    assert "weights_only" not in str(told.value)
    assert not (tmp_path / "poisoned").exists()


def test_the_teacher_comes_from_a_diffusers_folder(tmp_path, teacher):
    unet = tmp_path / "model" / "unet"
    unet.mkdir(parents=True)
    save_file(teacher, unet / "diffusion_pytorch_model.safetensors")
    save_file({"other": torch.zeros(1)}, unet / "diffusion_pytorch_model.fp16.safetensors")
    assert same(read_teacher(tmp_path / "model"), teacher)
    assert same(read_teacher(unet), teacher)
    with pytest.raises(PathError, match="neither a weights file nor a diffusers folder"):
        read_teacher(tmp_path)


def test_of_a_sharded_teacher_the_index_names_the_files_and_no_other_is_read(tmp_path, teacher):
    stem, (first, *rest) = "diffusion_pytorch_model", teacher
    one, two = (f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2))
    save_file({first: teacher[first]}, tmp_path / one)
    save_file({name: teacher[name] for name in rest}, tmp_path / two)
    for left_over in (f"{stem}.safetensors", f"{stem}-00003-of-00003.safetensors"):
        save_file({first: torch.zeros_like(teacher[first])}, tmp_path / left_over)
    table = {first: one, **dict.fromkeys(rest, two)}
    (tmp_path / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    assert same(read_teacher(tmp_path), teacher)
    (tmp_path / two).unlink()
    with pytest.raises(CheckpointError, match=f"index.json names {two}, which is missing"):
        read_teacher(tmp_path)


def test_the_command_imports_and_shows_the_path(tmp_path, teacher, capsys):
    folders = [write(tmp_path, step, guidance_model(step)) for step in (50, 100)]
    save_file(teacher, tmp_path / "teacher.safetensors")
    command = ["path", "import", *map(str, folders), "--out", str(tmp_path / "path")]
    assert main([*command, "--teacher", str(tmp_path / "teacher.safetensors")]) == 0
    assert "2 nodes, complete, codec full, published" in capsys.readouterr().out
    assert main(["path", "verify", str(tmp_path / "path")]) == 0


def test_a_folder_that_holds_something_is_not_imported_into(tmp_path, teacher):
    node = write(tmp_path, 1, guidance_model(1))
    (tmp_path / "path").mkdir()
    import_published([node], teacher, tmp_path / "path")  # an empty one is taken
    with pytest.raises(PathError, match="is there already, and not empty"):
        import_published([node], teacher, tmp_path / "path")
    assert DegradationPath.open(tmp_path / "path", teacher).verify() == []
