"""A LoRA is fused at the scale that its file says, as diffusers itself fuses it, or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pipelines import text_unet
from disback_plugin.pretrained.diffusers.lora import HEADER, fuse_lora

MODULES = ["to_q", "to_v", "conv1"]


def base() -> UNet2DConditionModel:
    return text_unet(16)


def save(folder: Path, with_metadata: bool = True, **settings: Any) -> Path:
    """A LoRA that is not zero, as `save_lora_weights` writes it."""
    unet = base()
    given = {"r": 4, "lora_alpha": 16, "target_modules": MODULES, **settings}
    unet.add_adapter(LoraConfig(init_lora_weights=False, **given))
    StableDiffusionPipeline.save_lora_weights(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict() if with_metadata else None,
    )
    return folder / "pytorch_lora_weights.safetensors"


def ours(lora: Path | str) -> dict[str, torch.Tensor]:
    unet = base()
    fuse_lora(unet, str(lora))
    return unet.state_dict()


def theirs(lora: Path) -> dict[str, torch.Tensor]:
    nothing: dict[str, Any] = dict.fromkeys(
        ("vae", "text_encoder", "tokenizer", "scheduler", "safety_checker", "feature_extractor")
    )
    pipeline = StableDiffusionPipeline(unet=base(), **nothing, requires_safety_checker=False)
    pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    pipeline.fuse_lora(lora_scale=1.0)
    pipeline.unload_lora_weights()
    return pipeline.unet.state_dict()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"with_metadata": False},
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"to_q": 2}},
        {"alpha_pattern": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_v": 1}},
        {"rank_pattern": {"conv1": 8}, "alpha_pattern": {"conv1": 2}, "use_rslora": True},
        {"lora_alpha": 1, "lora_dropout": 0.1},
    ],
    ids=str,
)
def test_the_scale_is_diffusers_own(settings: dict[str, Any], tmp_path: Path) -> None:
    file = save(tmp_path, **settings)
    fused, due, plain = ours(file), theirs(file), base().state_dict()
    assert fused.keys() == due.keys() == plain.keys()
    for name, value in due.items():
        torch.testing.assert_close(fused[name], value, rtol=0, atol=1e-5, msg=name)
    changed = {name.split(".")[-2] for name in due if not torch.equal(due[name], plain[name])}
    assert changed == set(MODULES)


def test_alpha_in_the_header_is_the_factor_alpha_over_rank(tmp_path: Path) -> None:
    file = save(tmp_path, r=4, lora_alpha=16)
    state, plain, fused = load_file(file), base().state_dict(), ours(file)
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    product = state[f"unet.{name}.lora_B.weight"] @ state[f"unet.{name}.lora_A.weight"]
    torch.testing.assert_close(fused[f"{name}.weight"], plain[f"{name}.weight"] + 4 * product)


def test_kohyas_alpha_is_a_tensor_and_counts(tmp_path: Path) -> None:
    saved = load_file(save(tmp_path / "plain", with_metadata=False, target_modules=["to_q"]))
    kohya = {}
    for name, value in saved.items():
        module, _, leaf = name.removeprefix("unet.").partition(".lora_")
        key = "lora_unet_" + module.replace(".", "_")
        kohya[f"{key}.lora_{'down' if leaf[0] == 'A' else 'up'}.weight"] = value
        kohya[f"{key}.alpha"] = torch.tensor(2.0)
    header = {"ss_network_dim": "4", "ss_network_alpha": "2.0", "ss_scale_weight_norms": "1"}
    save_file(kohya, tmp_path / "kohya.safetensors", header)
    fused, due = ours(tmp_path / "kohya.safetensors"), theirs(tmp_path / "kohya.safetensors")
    plain, full = base().state_dict(), ours(tmp_path / "plain")
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    torch.testing.assert_close(fused[name], due[name])
    torch.testing.assert_close(fused[name] - plain[name], (full[name] - plain[name]) / 2)
    bare = {name: value for name, value in kohya.items() if not name.endswith(".alpha")}
    save_file(bare, tmp_path / "bare.safetensors", header)
    with pytest.raises(CheckpointError, match=r"no tensor lora_unet_.*alpha, but ss_network_alpha"):
        ours(tmp_path / "bare.safetensors")
    scaled = {**kohya, f"{key}.dora_scale": torch.ones(8)}
    save_file(scaled, tmp_path / "dora.safetensors")
    with pytest.raises(CheckpointError, match="is a DoRA of kohya's scripts"):
        ours(tmp_path / "dora.safetensors")


def test_pefts_own_folder_has_its_scale_in_a_file_beside(tmp_path: Path) -> None:
    file = save(tmp_path / "diffusers", use_rslora=True)
    state = {
        name.replace("unet.", "base_model.model.", 1): v for name, v in load_file(file).items()
    }
    folder = tmp_path / "peft"
    folder.mkdir()
    save_file(state, folder / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"its scale is in adapter_config.json, which is not"):
        ours(folder)
    LoraConfig(r=4, lora_alpha=16, use_rslora=True).save_pretrained(folder)
    due = ours(file)
    assert all(torch.equal(value, due[name]) for name, value in ours(folder).items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unet.use_loha": True}, "the key 'use_loha' is not understood"),
        ({"unet.layer_replication": [[0, 1]]}, "the key 'layer_replication' is not understood"),
        ({"unet.init_lora_weights": "pissa"}, "init_lora_weights 'pissa' is not supported"),
        ({"unet.bias": "all"}, "bias 'all' is not supported"),
        ({"unet.peft_type": "LOHA"}, "peft_type 'LOHA' is not supported"),
        ({"unet.lora_alpha": "16"}, r"lora_alpha: .*number .seen: '16'"),
        ({"unet.use_rslora": "false"}, "use_rslora: .*boolean"),
        ({"unet.r": 0}, "r: .*greater than or equal to 1"),
        ({"unet.r": 2}, "does not load: .*size mismatch"),
        ({"text_encoder.r": 4}, "is of more than a U-Net"),
    ],
)
def test_a_key_that_could_change_the_weights_and_is_not_understood_is_an_error(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    file = save(tmp_path)
    with_header(file, {HEADER: json.dumps({**metadata(file), **change})})
    with pytest.raises(CheckpointError, match=message) as raised:
        ours(file)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({HEADER: "{"}, "is not valid JSON"),
        ({HEADER: "[1]"}, "is of more than a U-Net"),
        ({"lora_alpha": "8"}, "'lora_alpha' in its header .*not understood"),
        ({"network_scale": "0.5"}, "'network_scale' in its header"),
    ],
)
def test_a_header_that_could_hold_a_scale_is_read_or_refused(
    header: dict[str, str], message: str, tmp_path: Path
) -> None:
    file = save(tmp_path)
    with_header(file, header)
    with pytest.raises(CheckpointError, match=message):
        ours(file)


def test_notes_in_a_header_do_not_count(tmp_path: Path) -> None:
    file = save(tmp_path)
    due, said = ours(file), metadata(file)
    notes = {"modelspec.title": "scaled", "ss_network_alpha": "1", "software": "x"}
    newer = {**said, "unet.use_something_new": False, "unet.peft_version": "9.9"}
    with_header(file, {**notes, HEADER: json.dumps(newer)})
    assert all(torch.equal(value, due[name]) for name, value in ours(file).items())


def test_of_several_files_none_is_guessed(tmp_path: Path) -> None:
    file = save(tmp_path)
    one = {"a.safetensors", "b.safetensors"}
    for name in one:
        (tmp_path / name).write_bytes(file.read_bytes())
    assert ours(tmp_path)  # the usual name is there
    file.unlink()
    with pytest.raises(CheckpointError, match=r"it holds a.safetensors, b.safetensors: give one"):
        ours(tmp_path)


def metadata(file: Path) -> dict[str, Any]:
    from disback_plugin.files import read_metadata

    return json.loads(read_metadata(file)[HEADER])


def with_header(file: Path, header: dict[str, str]) -> None:
    tensors = {
        name: nn.Parameter(value).detach().clone() for name, value in load_file(file).items()
    }
    save_file(tensors, file, header)
