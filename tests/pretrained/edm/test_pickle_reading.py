"""What is read from an EDM pickle, and the errors for what is not one."""

import pickle
import re
import sys
import types
from typing import Any

import pytest
import torch
from torch import nn

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pickles import (
    SOURCE,
    Call,
    Name,
    edm_file,
    network,
    numpy_float,
    persistent,
    state,
    stored,
    tensor,
)
from disback_plugin.pretrained.edm.build import build_edm
from disback_plugin.pretrained.edm.opening import load_edm_pickle
from disback_plugin.pretrained.edm.pickle_reader import read_edm_pickle
from tests.pretrained.edm.cases import DDPMPP, NCSNPP
from tests.pretrained.edm.pickle_files import TINY_KWARGS, small_pickles, tiny, write

ADM = {
    "model_type": "DhariwalUNet",
    "model_channels": 16,
    "num_blocks": 1,
    "channel_mult": [1, 2],
    "attn_resolutions": [4],
}


def test_tensors_and_arguments_are_those_in_the_file(tmp_path):
    found = read_edm_pickle(write(tmp_path, edm_file(tiny())))
    assert found.class_name == "EDMPrecond"
    assert found.init_kwargs == TINY_KWARGS
    assert list(found.tensors) == ["model.weight", "model.enc.8x8_conv.bias"]
    assert torch.equal(found.tensors["model.weight"], torch.arange(4.0))
    assert torch.equal(found.tensors["model.enc.8x8_conv.bias"], torch.ones(2))


class _Network(nn.Module):
    """What the stand-in for NVlabs' persistence makes of a record."""

    def __init__(self, meta: dict[str, Any]) -> None:
        super().__init__()
        assert meta["module_src"] == SOURCE
        self.__dict__.update(meta["state"])


def test_the_standard_unpickler_reads_our_test_files_to_the_same_tensors(tmp_path, monkeypatch):
    persistence = types.ModuleType("torch_utils.persistence")
    persistence._reconstruct_persistent_obj = _Network  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_utils", types.ModuleType("torch_utils"))
    monkeypatch.setitem(sys.modules, "torch_utils.persistence", persistence)
    torch.manual_seed(0)
    source = build_edm("EDMPrecond", {**TINY_KWARGS, **NCSNPP}).state_dict()
    data = edm_file(network("EDMPrecond", TINY_KWARGS, dict(source)))
    theirs = pickle.loads(data)["ema"].state_dict()
    ours = read_edm_pickle(write(tmp_path, data)).tensors
    assert list(theirs) == list(ours)
    assert set(theirs) == set(source)
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_every_dtype_keeps_its_bits(tmp_path, dtype):
    value = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).mul(9).to(dtype)
    found = read_edm_pickle(write(tmp_path, edm_file(tiny(**{"model.x": value}))))
    assert found.tensors["model.x"].dtype is dtype
    assert torch.equal(found.tensors["model.x"], value)


def test_views_keep_their_order_and_get_memory_of_their_own(tmp_path):
    base = torch.arange(24.0)
    views = {
        "model.turned": base.reshape(2, 3, 4).permute(2, 0, 1),
        "model.last": torch.rand(1, 3, 2, 2).to(memory_format=torch.channels_last),
        "model.part": base[5:11],
    }
    found = read_edm_pickle(write(tmp_path, edm_file(tiny(**views)))).tensors
    assert all(torch.equal(found[name], value) for name, value in views.items())
    found["model.turned"].zero_()
    assert torch.equal(found["model.part"], base[5:11])


def test_storages_of_a_gpu_come_to_the_cpu(tmp_path):
    numbers = torch.tensor([1.0, 2.0, 3.0, 4.0])
    raw = small_pickles() + (4).to_bytes(8, "little") + numbers.numpy().tobytes()
    data = edm_file(tiny(**{"model.x": stored(raw, (2, 2), (2, 1))}))
    found = read_edm_pickle(write(tmp_path, data)).tensors["model.x"]
    assert torch.equal(found, numbers.reshape(2, 2))
    assert found.device.type == "cpu"


def test_absent_parameters_and_passing_buffers_are_left_out(tmp_path):
    one = tensor(torch.ones(1))
    linear = Call(Name("torch.nn.modules.linear", "Linear"), (), b"\x81", state({"weight": one}))
    inner = state(
        {"weight": one, "bias": None},
        {"kept": one, "passing": one, "none": None},
        {"skip": None, "layer": linear},
    )
    inner["_non_persistent_buffers_set"] = {"passing", "weight"}  # of which one is no buffer
    net = persistent("EDMPrecond", inner | {"_init_args": (), "_init_kwargs": {}})
    found = read_edm_pickle(write(tmp_path, edm_file(net))).tensors
    assert list(found) == ["weight", "kept", "layer.weight"]


def test_arguments_become_plain_values(tmp_path):
    easy = Call(Name("dnnlib.util", "EasyDict"), (), b"\x81")
    kwargs = {
        "sigma_max": float("inf"),
        "channel_mult": (1, 2),
        "a": numpy_float(0.25),
        "b": numpy_float(0.5, "numpy.core"),
        "c": easy,
        "d": -70000,
    }
    net = network("EDMPrecond", kwargs, {}, _init_args=(64, 3, 10))
    assert read_edm_pickle(write(tmp_path, edm_file(net))).init_kwargs == {
        "img_resolution": 64,
        "img_channels": 3,
        "label_dim": 10,
        **kwargs,
        "channel_mult": [1, 2],
        "a": 0.25,
        "b": 0.5,
        "c": {},
    }


@pytest.mark.parametrize("kind", [DDPMPP, NCSNPP, ADM], ids=["ddpmpp", "ncsnpp", "adm"])
def test_the_denoiser_computes_as_the_one_that_was_stored(tmp_path, kind):
    torch.manual_seed(2)
    kwargs = {"img_resolution": 8, "img_channels": 3, "label_dim": 3, **kind}
    source = build_edm("EDMPrecond", kwargs).eval()
    for value in source.parameters():
        nn.init.normal_(value, std=0.3)
    data = edm_file(network("EDMPrecond", kwargs, dict(source.state_dict())))
    found = load_edm_pickle(write(tmp_path, data)).eval()
    x, sigma, labels = torch.randn(2, 3, 8, 8), torch.tensor([0.4, 7.0]), torch.tensor([0, 2])
    with torch.no_grad():
        assert torch.equal(found(x, sigma, labels), source(x, sigma, labels))
    assert all(value.requires_grad for value in found.parameters())
    assert not any(value.is_meta for value in found.state_dict().values())


def test_half_precision_weights_become_float32(tmp_path):
    source = build_edm("EDMPrecond", {**TINY_KWARGS, **DDPMPP}).half().state_dict()
    data = edm_file(network("EDMPrecond", {**TINY_KWARGS, **DDPMPP}, dict(source)))
    found = load_edm_pickle(write(tmp_path, data)).state_dict()
    for name, value in source.items():
        assert found[name].dtype is torch.float32
        assert torch.equal(found[name], value.float())


def test_tensors_that_do_not_fit_the_network_are_named(tmp_path):
    kwargs = {**TINY_KWARGS, **DDPMPP}
    source = dict(build_edm("EDMPrecond", kwargs).state_dict())
    name = next(name for name in source if name.endswith("bias"))
    for wrong, pattern in (
        ({k: v for k, v in source.items() if k != name}, rf"missing \['{name}'\] \(1 in all"),
        (source | {"model.more": torch.ones(1)}, r"unexpected \['model.more'\] \(1 in all"),
        (source | {name: torch.ones(77)}, rf"{name}' has shape \(77,\), expected"),
    ):
        file = write(tmp_path, edm_file(network("EDMPrecond", kwargs, wrong)))
        with pytest.raises(CheckpointError, match=f"{re.escape(str(file))}.*{pattern}"):
            load_edm_pickle(file)
    file = write(tmp_path, edm_file(network("EDMPrecond", kwargs | {"model_chanels": 8}, source)))
    with pytest.raises(CheckpointError, match=f"{re.escape(str(file))}.*model_chanels"):
        load_edm_pickle(file)
