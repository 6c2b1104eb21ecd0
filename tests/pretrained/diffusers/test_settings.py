"""What lies beside a pipeline's tensors is used, has no effect on D, or is refused."""

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import LCMScheduler
from safetensors.torch import load_file, save_file

from disback_plugin.errors import CheckpointError
from disback_plugin.lab.smoke.pipelines import save_ddpm, save_sd
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder

SCHEDULER, UNET = "scheduler/scheduler_config.json", "unet/config.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


@pytest.fixture
def ddpm(tmp_path: Path) -> Path:
    save_ddpm(tmp_path)
    return tmp_path


def change(file: Path, **settings: Any) -> None:
    """Settings set, or taken out where they are ...."""
    config = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.mark.parametrize(
    ("settings", "parametrisation"),
    [
        ({"prediction_type": ..., "predict_epsilon": False}, "x0"),
        ({"prediction_type": ..., "predict_epsilon": True}, "eps"),
        ({"prediction_type": ...}, "eps"),
        ({"prediction_type": "sample", "predict_epsilon": False}, "x0"),
        ({"prediction_type": "v_prediction", "predict_epsilon": False}, "v"),
    ],
    ids=str,
)
def test_predict_epsilon_of_old_releases_is_read(
    settings: dict[str, Any], parametrisation: str, ddpm: Path
) -> None:
    change(ddpm / SCHEDULER, **settings)
    assert describe(load_denoiser(f"diffusers:{ddpm}")).parametrisation == parametrisation


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        (SCHEDULER, {"predict_epsilon": False}, "contradicts itself: predict_epsilon is False"),
        (SCHEDULER, {"predict_epsilon": "no"}, "contradicts itself: predict_epsilon is 'no'"),
        (SCHEDULER, {"predict_noise": True}, "the key 'predict_noise' is not known"),
        (SCHEDULER, {"use_flow_sigmas": True}, "use_flow_sigmas is True, which makes a model of"),
        (SCHEDULER, {"timestep_type": "continuous"}, "only 'discrete' is supported"),
        (SCHEDULER, {"shift_terminal": 0.1}, "only null is supported"),
        (SCHEDULER, {"prediction_type": "flow"}, "prediction_type 'flow' is not supported"),
        (SCHEDULER, {"beta_schedule": "cube"}, "does not make a DDPMScheduler: cube is not impl"),
        (SCHEDULER, {"beta_end": "high"}, "does not make a DDPMScheduler"),
        (SCHEDULER, {"trained_betas": ["a"]}, "does not make a DDPMScheduler"),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, "zero terminal SNR has no finite sigma"),
        (SCHEDULER, {"_class_name": "NoScheduler"}, "diffusers has no scheduler 'NoScheduler'"),
        (SCHEDULER, {"_class_name": "utils"}, "diffusers has no scheduler 'utils'"),
        (SCHEDULER, {"num_train_timesteps": 10**9}, "no whole number from 1 to 1,048,576"),
        (SCHEDULER, {"trained_betas": [0.01] * 10}, "num_train_timesteps is 1000, and it has 10"),
        (UNET, {"norm_eps": "a"}, "norm_eps is the text 'a', not like 1e-05"),
        (UNET, {"sample_size": [8, 8, 8]}, r"sample_size \[8, 8, 8\], no size of an image"),
        (UNET, {"rotary": True}, "the key 'rotary' is not known, and it could change what"),
        (UNET, {"quantization_config": {"bits": 4}}, "the key 'quantization_config' is not known"),
        (UNET, {"_class_name": "NoUNet"}, "holds a NoUNet, no UNet2DModel or"),
        (UNET, {"block_out_channels": "wide"}, "UNet2DModel in .* does not load"),
    ],
    ids=str,
)
def test_a_setting_that_could_change_the_meaning_is_refused_by_file_and_key(
    file: str, settings: dict[str, Any], message: str, ddpm: Path
) -> None:
    change(ddpm / file, **settings)
    with pytest.raises(CheckpointError, match=message) as raised:
        load_denoiser(f"diffusers:{ddpm}")
    assert str(ddpm) in str(raised.value)


def test_settings_of_the_sampler_have_no_effect(ddpm: Path) -> None:
    x, sigma = torch.randn(2, 3, 8, 8), torch.tensor([0.5, 20.0])
    before = load_denoiser(f"diffusers:{ddpm}")(x, sigma)
    change(ddpm / SCHEDULER, thresholding=True, clip_sample=True, timestep_spacing="trailing",
           skip_prk_steps=True, use_karras_sigmas=True, flow_shift=1.0, a_new_one=None)  # fmt: skip
    change(ddpm / UNET, _name_or_path="somewhere", a_new_one=None)
    assert torch.equal(load_denoiser(f"diffusers:{ddpm}")(x, sigma), before)


def test_every_setting_of_the_schedulers_that_are_read_is_in_the_table(ddpm: Path) -> None:
    read = 0
    for name in (name for name in dir(diffusers) if name.endswith("Scheduler")):
        try:
            getattr(diffusers, name)().save_pretrained(ddpm / "scheduler")
        except Exception:  # needs arguments, or a package
            continue
        if "beta_schedule" in json.loads((ddpm / SCHEDULER).read_text()):
            describe(load_denoiser(f"diffusers:{ddpm}"))
            read += 1
    assert read >= 15


def test_an_lcm_with_another_scale_of_time_is_refused(ddpm: Path) -> None:
    LCMScheduler().save_pretrained(ddpm / "scheduler")
    assert describe(load_denoiser(f"diffusers:{ddpm}")).parametrisation == "lcm"
    change(ddpm / SCHEDULER, timestep_scaling=1.0)
    with pytest.raises(CheckpointError, match="timestep_scaling 1.0 is not supported"):
        load_denoiser(f"diffusers:{ddpm}")


def shard(folder: Path) -> dict[str, str]:
    """The weights in two files with an index, as diffusers writes large ones; the weight_map."""
    state = {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    table = {}
    for number in range(2):
        name = f"diffusion_pytorch_model-0000{number + 1}-of-00002.safetensors"
        part = dict(sorted(state.items())[number::2])
        save_file(part, folder / "unet" / name, {"format": "pt"})
        table |= dict.fromkeys(part, name)
    write_index(folder, table)
    return table


def write_index(folder: Path, table: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": table}))


def test_an_index_names_the_files_and_no_other_is_read(ddpm: Path) -> None:
    whole = load_denoiser(f"diffusers:{ddpm}").state_dict()
    shard(ddpm)
    stale = {name.removeprefix("network.unet."): value + 1 for name, value in whole.items()}
    for name in ("model-00003-of-00003", "model"):
        save_file(stale, ddpm / "unet" / f"diffusion_pytorch_{name}.safetensors", {"format": "pt"})
    loaded = load_denoiser(f"diffusers:{ddpm}").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in whole.items())


def test_an_index_and_its_files_must_agree(ddpm: Path) -> None:
    table = shard(ddpm)
    first, second = sorted(set(table.values()))
    name, other = (next(n for n in table if table[n] == f) for f in (first, second))
    for wrong, message in (
        ({**table, name: second}, f"says that {second} holds '{name}', which is in {first}"),
        ({**table, "more": first}, f"says that {first} holds 'more', which is in no file that it"),
        ({n: f for n, f in table.items() if n != other}, f"does not name '{other}', which is in"),
        ({**table, name: "gone.safetensors"}, "names gone.safetensors, which is missing"),
        ({**table, name: "../up.safetensors"}, "names '../up.safetensors', no file beside it"),
        ({}, "has no weight_map"),
        ([1], "has no weight_map"),
    ):
        write_index(ddpm, wrong)
        with pytest.raises(CheckpointError, match="does not load") as raised:
            load_denoiser(f"diffusers:{ddpm}")
        assert message in str(raised.value)
    (ddpm / INDEX).write_text("{")
    with pytest.raises(CheckpointError, match=r"index.json is not valid JSON"):
        load_denoiser(f"diffusers:{ddpm}")


def test_variants_that_are_there_are_listed_and_none_is_chosen_silently(ddpm: Path) -> None:
    file, half = ddpm / WEIGHTS, ddpm / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    file.rename(half)
    with pytest.raises(CheckpointError, match="there are weights of others: give variant=fp16"):
        load_denoiser(f"diffusers:{ddpm}")
    assert load_denoiser(f"diffusers:{ddpm}", variant="fp16")
    half.rename(file)
    with pytest.raises(CheckpointError, match="there are weights of others: give no variant"):
        load_denoiser(f"diffusers:{ddpm}", variant="fp16")
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"diffusion_pytorch_model.bin is not read: save"):
        load_denoiser(f"diffusers:{ddpm}")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused_by_name(dtype: torch.dtype, ddpm: Path) -> None:
    state = {name: value.clone() for name, value in load_file(ddpm / WEIGHTS).items()}
    state["conv_in.bias"] = state["conv_in.bias"].to(dtype)
    save_file(state, ddpm / WEIGHTS, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"tensor 'conv_in.bias' is [IF]8.*: quantised"):
        load_denoiser(f"diffusers:{ddpm}")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["kolors", "ChatGLMModel"], r"its text_encoder is \['kolors', 'ChatGLMModel'\]"),
        (["transformers", "NoSuchModel"], "its text_encoder is .*NoSuchModel"),
        (["transformers", "T5EncoderModel"], "its text_encoder is .*T5EncoderModel"),
        ("CLIPTextModel", "its text_encoder is 'CLIPTextModel'"),
        ([None, None], "names no text_encoder"),
    ],
)
def test_text_encoders_of_other_classes_are_refused(
    entry: Any, message: str, tmp_path: Path
) -> None:
    save_sd(tmp_path)
    change(tmp_path / "model_index.json", text_encoder=entry)
    with pytest.raises(CheckpointError, match=message):
        load_text_encoder(f"diffusers:{tmp_path}")


def test_a_text_encoders_files_are_looked_at_too(tmp_path: Path) -> None:
    save_sd(tmp_path)
    weights = tmp_path / "text_encoder" / "model.safetensors"
    weights.rename(weights.with_name("model.fp16.safetensors"))
    with pytest.raises(CheckpointError, match="text_encoder in .*: give variant=fp16"):
        load_text_encoder(f"diffusers:{tmp_path}")
    weights.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"text_encoder in .*model.safetensors is a git-lfs"):
        load_text_encoder(f"diffusers:{tmp_path}")
