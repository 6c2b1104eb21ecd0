"""`disback convert edm-pkl`, and the file that it writes."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from disback_plugin.cli.main import main
from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import edm_file, network
from disback_plugin.pretrained.edm.build import build_edm
from disback_plugin.pretrained.edm.checkpoint import read_edm_safetensors
from disback_plugin.pretrained.edm.opening import load_edm_pickle, load_edm_safetensors
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from tests.pretrained.edm.cases import DDPMPP

KWARGS = {"img_resolution": 8, "img_channels": 3, **DDPMPP, "sigma_max": float("inf")}


@pytest.fixture
def pickled(tmp_path):
    torch.manual_seed(3)
    tensors = dict(build_edm("EDMPrecond", KWARGS).state_dict())
    file = tmp_path / "snapshot.pkl"
    file.write_bytes(edm_file(network("EDMPrecond", KWARGS, tensors)))
    return file


def test_the_converted_file_holds_the_same_bits_and_arguments(tmp_path, pickled, capsys):
    target = tmp_path / "edm.safetensors"
    assert main(["convert", "edm-pkl", str(pickled), str(target)]) == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["edm.safetensors", "snapshot.pkl"]
    before, after = read_edm_pickle(pickled), read_edm_safetensors(target)
    assert (after.class_name, after.init_kwargs) == ("EDMPrecond", KWARGS)
    assert set(after.tensors) == set(before.tensors)
    for name, value in before.tensors.items():
        assert after.tensors[name].dtype is value.dtype
        assert torch.equal(after.tensors[name], value), name
    first, second = load_edm_pickle(pickled).eval(), load_edm_safetensors(target).eval()
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.5, 5.0])
    with torch.no_grad():
        assert torch.equal(first(x, sigma), second(x, sigma))
    said = capsys.readouterr().out
    assert f"{len(before.tensors)} tensors" in said
    assert f"{target.stat().st_size:,} bytes" in said
    assert f"{pickled}: EDMPrecond with {json.dumps(KWARGS)}" in said


def test_the_header_says_the_format_under_one_key(tmp_path, pickled):
    target = tmp_path / "edm.safetensors"
    main(["convert", "edm-pkl", str(pickled), str(target)])
    with safe_open(target, "pt") as stream:
        metadata = stream.metadata()
    assert list(metadata) == ["disback"]
    assert json.loads(metadata["disback"]) == {
        "format": "edm",
        "class_name": "EDMPrecond",
        "init_kwargs": KWARGS,
    }


def test_an_existing_file_is_kept_unless_forced(tmp_path, pickled, capsys):
    target = tmp_path / "edm.safetensors"
    target.write_bytes(b"mine")
    command = ["convert", "edm-pkl", str(pickled), str(target)]
    assert main(command) == 2
    assert "exists; give --force to replace it" in capsys.readouterr().err
    assert target.read_bytes() == b"mine"
    assert main([*command, "--force"]) == 0
    assert read_edm_safetensors(target).class_name == "EDMPrecond"


def test_a_refused_pickle_leaves_no_file(tmp_path, pickled, capsys):
    pickled.write_bytes(b"\x80\x04cos\nsystem\n.")
    target = tmp_path / "edm.safetensors"
    assert main(["convert", "edm-pkl", str(pickled), str(target)]) == 2
    assert f"{pickled}: asks for os.system" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [pickled]


def test_tensors_that_are_no_network_of_the_arguments_are_not_converted(tmp_path, capsys):
    file, target = tmp_path / "snapshot.pkl", tmp_path / "edm.safetensors"
    file.write_bytes(edm_file(network("EDMPrecond", KWARGS, {"sigma": torch.ones(1)})))
    assert main(["convert", "edm-pkl", str(file), str(target)]) == 2
    assert f"{file}: does not fit a EDMPrecond: " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [file]


def test_folders_on_the_way_are_made_and_a_folder_is_no_target(tmp_path, pickled, capsys):
    target = tmp_path / "new" / "deep" / "edm.safetensors"
    assert main(["convert", "edm-pkl", str(pickled), str(target)]) == 0
    assert [file.name for file in target.parent.iterdir()] == ["edm.safetensors"]
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    assert main(["convert", "edm-pkl", str(pickled), str(folder), "--force"]) == 2
    assert f"{folder} is a folder: name the file to write in it" in capsys.readouterr().err
    assert not list(tmp_path.glob(".tmp*"))


def test_a_target_of_another_kind_is_a_mistake(tmp_path, pickled, capsys):
    assert main(["convert", "edm-pkl", str(pickled), str(tmp_path / "edm.pt")]) == 2
    assert "name the file to write *.safetensors" in capsys.readouterr().err


HEADERS = {
    "none": (None, "its header does not tell"),
    "not JSON": ("{", "is not an EDM safetensors file"),
    "not a mapping": ("[1]", "is not an EDM safetensors file"),
    "too little": ('{"format": "edm"}', "class_name"),
    "too much": (
        '{"format": "edm", "class_name": "EDMPrecond", "init_kwargs": {}, "more": 1}',
        "unknown key 'more'",
    ),
    "another format": (
        '{"format": "cm", "class_name": "UNet", "init_kwargs": {}}',
        "holds a cm UNet, not an EDM",
    ),
}


@pytest.mark.parametrize("name", HEADERS)
def test_other_safetensors_files_are_told_apart(tmp_path, name):
    header, pattern = HEADERS[name]
    file = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(1)}, file, None if header is None else {"disback": header})
    with pytest.raises(CheckpointError, match=pattern) as raised:
        read_edm_safetensors(file)
    assert str(file) in str(raised.value)


def test_a_cut_safetensors_file_is_damaged(tmp_path, pickled):
    target = tmp_path / "edm.safetensors"
    main(["convert", "edm-pkl", str(pickled), str(target)])
    target.write_bytes(target.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is no whole safetensors file"):
        read_edm_safetensors(target)
