"""What is given by mistake is told by its content, and the advice leads to what can be read."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

from disback_plugin.cli.main import main
from disback_plugin.errors import CheckpointError, DisBackError
from disback_plugin.foreign_weights import read_weights, translated
from disback_plugin.lab.smoke.pipelines import save_ddpm
from disback_plugin.pretrained import load_denoiser
from tests.pretrained.files import write_edm_pickle

ONE = torch.zeros(3)
SD, SDXL = "model.diffusion_model.input_blocks.0.0.weight", "conditioner.embedders.0.x"
LORA = "lora_unet_mid_block_attentions_0.lora_down.weight"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 135\n"


class Runs:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def torch_file(data: object, **how: bool) -> Callable[[Path], object]:
    return lambda file: torch.save(data, file, **how)


def tensors(*names: str) -> Callable[[Path], object]:
    return lambda file: save_file({name: ONE.clone() for name in names}, file)


def content(data: bytes) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(data)


SINGLE = "is a single-file checkpoint of "
# how the file is made -> what is said of it, whatever kind it is given as
STRAYS: dict[str, tuple[Callable[[Path], object], str]] = {
    "sd.ckpt": (torch_file({"state_dict": {SD: ONE}}), f"{SINGLE}Stable Diffusion.*from_single"),
    "old.ckpt": (
        torch_file({"state_dict": {SD: ONE}}, _use_new_zipfile_serialization=False),
        f"{SINGLE}Stable Diffusion.*from_single_file",
    ),
    "sd-with-code.ckpt": (torch_file({SD: ONE, "callbacks": Runs()}), f"{SINGLE}Stable Diffusion"),
    "training.pt": (
        torch_file({"net": torch.nn.Linear(2, 2), "optimizer_state": {}}),
        "is a training state of NVlabs/edm.*give the network-snapshot",
    ),
    "sd.safetensors": (tensors(SD), f"{SINGLE}Stable Diffusion"),
    "sdxl.safetensors": (tensors(SD, SDXL), f"{SINGLE}SDXL.*StableDiffusionXLPipeline"),
    "flux.safetensors": (
        tensors("double_blocks.0.img_attn.qkv"),
        f"{SINGLE}Flux.*FluxTransformer2DModel",
    ),
    "sd3.safetensors": (tensors("model.diffusion_model.joint_blocks.0.x"), f"{SINGLE}.* 3"),
    "lora.safetensors": (tensors(LORA), "is a LoRA.*diffusers:BASE lora=FILE"),
    "peft.safetensors": (tensors("unet.a.lora_A.weight"), "is a LoRA"),
    "unet.safetensors": (
        tensors("conv_in.weight", "down_blocks.0.x"),
        "is the weights of a U-Net of diffusers.*give the folder with its config.json",
    ),
    "transformer.safetensors": (
        tensors("transformer_blocks.0.attn.to_q.weight"),
        "is the weights of a transformer of diffusers.*weights:FILE, with its base",
    ),
    "vae.safetensors": (tensors("encoder.conv_in.weight"), "is a VAE"),
    "pointer.pkl": (content(POINTER.encode()), "is a git-lfs pointer .*git lfs pull"),
    "page.pt": (content(b"\n<!DOCTYPE html><html>"), "is a web page.*download the file itself"),
    "empty.safetensors": (content(b""), "is empty: it was not written whole"),
    "packed.pkl.gz": (content(b"\x1f\x8b\x08\0\0"), "is compressed: unpack it"),
    "x.gguf": (content(b"GGUF\x03\0\0\0"), "is a GGUF file"),
    "index.json": (content(b'{"weight_map": {}}'), "is a JSON text.*give the folder"),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
}


@pytest.mark.parametrize("kind", ["", "edm-pkl:", "cm:", "diffusers:", "safetensors:"])
@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_file_is_told_by_its_content_and_the_advice_ends_there(
    name: str, kind: str, tmp_path: Path
) -> None:
    make, message = STRAYS[name]
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_denoiser(f"{kind}{tmp_path / name}")
    assert str(tmp_path / name) in str(raised.value)
    assert "write " not in str(raised.value)
    assert "weights_only" not in str(raised.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("https://huggingface.co/google/ddpm-cifar10-32", "is diffusers:google/ddpm-cifar10-32"),
        ("diffusers:https://huggingface.co/a/b/tree/main", "a repository is diffusers:a/b"),
        ("cm:https://example.org/cd.pt", "is an address, no file here: download it"),
        ("edm-pkl:{}", r"is a folder \(it holds a.pkl: give one of them\), edm-pkl: reads a .pkl"),
        ("safetensors:{}", r"is a folder \(it holds a.pkl.*reads a file of `disback convert`"),
        ("{}", r"is of no known format \(it holds a.pkl: give one of them\)"),
        ("diffusers:{}/text", "is a file, diffusers: reads a pipeline's folder"),
        ("run:{}/text", "is a file, run: reads a folder of `disback run`"),
        ("cm:{}/gone", "no such file or folder"),
        ("cm:{}/link", "link is a link to nothing"),
        ("cm:" + "x" * 300, "no such file or folder"),
        ("cm:a\0b", "holds a NUL"),
    ],
)
def test_what_is_no_file_here_is_said_with_what_to_give(
    spec: str, message: str, tmp_path: Path
) -> None:
    write_edm_pickle(tmp_path / "a.pkl")
    (tmp_path / "text").write_text("hello, a text that is long enough")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DisBackError, match=message):
        load_denoiser(spec.format(tmp_path))


def test_a_home_folder_is_found_in_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_edm_pickle(tmp_path / "a.pkl")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_denoiser("edm-pkl:~/a.pkl")
    assert load_denoiser("~/a.pkl")


@pytest.mark.parametrize("kind", ["", "diffusers:"])
@pytest.mark.parametrize("index", [True, False])
def test_a_pipeline_may_hold_a_config_yaml_of_its_own(
    kind: str, index: bool, tmp_path: Path
) -> None:
    save_ddpm(tmp_path)
    (tmp_path / "config.yaml").write_text("lr: 1e-4\n")
    if not index:
        (tmp_path / "model_index.json").unlink()
    network = load_denoiser(f"{kind}{tmp_path}").network
    assert isinstance(network.unet, UNet2DModel)


def test_a_broken_model_index_does_not_keep_the_unet(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    (tmp_path / "model_index.json").write_bytes(b"\xff{")
    assert load_denoiser(f"diffusers:{tmp_path}")
    (tmp_path / "unet" / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(CheckpointError, match=r"unet/config.json is not valid JSON"):
        load_denoiser(f"diffusers:{tmp_path}")
    (tmp_path / "unet" / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match=r"unet/config.json is not valid JSON"):
        load_denoiser(f"diffusers:{tmp_path}")
    (tmp_path / "unet" / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"unet/config.json holds \[1\], not settings"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_a_pipeline_without_a_unet_says_which_it_is(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(CheckpointError, match=r"has no unet: .*it is a 'FluxPipeline'"):
        load_denoiser(f"diffusers:{tmp_path}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["guidance_scale=high"], "'guidance_scale' of diffusers must be a number, not 'high'"),
        (["lcm=3"], "'lcm' of diffusers must be true or false, not 3"),
        (["variant=16"], "'variant' of diffusers must be a text, not 16"),
        (["nearest_t="], "'nearest_t' of diffusers must be true or false, not None"),
        (["lora=[1, 2]"], "'lora' of diffusers must be a text"),
        (["variant=a", "variant=b"], "option 'variant' is given twice"),
        (["lora=2024-13-45"], "the value of 'lora=2024-13-45' holds a value that YAML cannot read"),
        (["lora=" + "[" * 5000], "the value of 'lora=.*is n"),
        (["lora=[&a [*a]]"], "an alias stands within what it names"),
    ],
)
def test_inspect_refuses_values_of_another_type(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    save_ddpm(tmp_path)
    assert main(["inspect", f"diffusers:{tmp_path}", *options]) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert len(said) < 2000


@pytest.mark.parametrize("name", STRAYS)
@pytest.mark.parametrize("action", ["edm-pkl", "cm"])
def test_convert_ends_with_a_message_and_writes_nothing(
    action: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    STRAYS[name][0](tmp_path / name)
    assert main(["convert", action, str(tmp_path / name), str(tmp_path / "o.safetensors")]) == 2
    assert f"disback: error: {tmp_path / name}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["cut.safetensors", "w.bin", "old.bin", "deep.pt", "code.pt"])
def test_weights_are_read_or_refused_in_words_of_ours(name: str, tmp_path: Path) -> None:
    file, given = tmp_path / name, {"w": torch.arange(3.0)}
    if name.endswith(".bin"):
        torch.save(given, file, _use_new_zipfile_serialization=name == "w.bin")
        assert torch.equal(read_weights(file)["w"], given["w"])
        assert [*read_weights(file)] == ["w"]
        file.write_bytes(file.read_bytes()[:-30])
    elif name == "cut.safetensors":
        save_file(given, file)
        assert torch.equal(read_weights(file)["w"], given["w"])
        file.write_bytes(file.read_bytes()[:-1])
    else:
        torch.save({"w": Runs()} if name == "code.pt" else {"model": given}, file)
    with pytest.raises(CheckpointError, match="no whole|damaged|not a flat dict|asks to run") as it:
        read_weights(file)
    assert str(file) in str(it.value)
    assert "weights_only" not in str(it.value)


def test_advice_to_load_unsafely_is_never_passed_on() -> None:
    for advice in ("set weights_only=False", "allow_pickle=True", "pass trust_remote_code=True"):
        with pytest.raises(CheckpointError) as raised, translated("FILE does not load"):
            raise RuntimeError(f"Failed. You can {advice} to go on")
        assert str(raised.value).startswith("FILE does not load: ")
        assert advice.split("=")[0].split()[-1] not in str(raised.value)
