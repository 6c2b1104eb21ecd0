"""SD3, Flux, Qwen-Image and Wan: D is what diffusers' own pipelines make of the same latents."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import FlowDenoiser, TextCondition
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from tests.pretrained.diffusers.flow_pipelines import (
    save_flux,
    save_qwen_image,
    save_sd3,
    save_wan,
)
from tests.pretrained.diffusers.test_settings import SCHEDULER, change

CONFIG = "transformer/config.json"
SAVED = {"sd3": save_sd3, "flux": save_flux}


def prompts(pooled: bool = True) -> TextCondition:
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(2, 3, 6, generator=generator)
    return TextCondition(hidden, torch.randn(2, 4, generator=generator) if pooled else None)


def latents(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def one_step_of_the_pipeline(pipeline: Any, x_t: Tensor, t: float) -> tuple[Tensor, float]:
    """x0 as the whole pipeline makes it of latents, and the shifted t at which it asked."""
    pipeline.set_progress_bar_config(disable=True)
    text, is_flux = prompts(), type(pipeline).__name__ == "FluxPipeline"
    size = {"height": 64, "width": 64, "num_inference_steps": 1, "sigmas": [t]}
    given = pipeline._pack_latents(x_t, 2, 4, 8, 8) if is_flux else x_t
    made = pipeline(
        prompt_embeds=text.hidden,
        pooled_prompt_embeds=text.pooled,
        latents=given,
        output_type="latent",
        guidance_scale=1.0,
        **size,
    ).images
    made = pipeline._unpack_latents(made, 64, 64, 8) if is_flux else made
    return made, pipeline.scheduler.sigmas[0].item()


@pytest.mark.parametrize("t", [0.05, 0.6, 0.99])
@pytest.mark.parametrize(("model", "shift"), [("sd3", 1.0), ("sd3", 3.0), ("flux", 1.0)])
def test_d_is_the_pipelines_x0(model: str, shift: float, t: float, tmp_path: Path) -> None:
    pipeline, x_t = SAVED[model](tmp_path, shift=shift), latents(4, 8, 8)
    theirs, asked = one_step_of_the_pipeline(pipeline, x_t, t)
    assert asked == pytest.approx(shift * t / (1 + (shift - 1) * t))
    denoiser = load_denoiser(f"diffusers:{tmp_path}")
    sigma = torch.full((2,), asked / (1 - asked))
    with torch.no_grad():
        ours = denoiser(x_t * (1 + sigma[0]), sigma, prompts())
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_of_wan_d_is_the_transformers_x0(tmp_path: Path) -> None:
    transformer, x_t, t = save_wan(tmp_path), latents(4, 2, 4, 6), torch.tensor([0.2, 0.8])
    text = prompts(pooled=False)
    with torch.no_grad():
        v = transformer(x_t, 1000 * t, encoder_hidden_states=text.hidden).sample
        denoiser = load_denoiser(f"diffusers:{tmp_path}", sample_size=[2, 4, 6])
        sigma = t / (1 - t)
        ours = denoiser(x_t * (1 + sigma).view(2, 1, 1, 1, 1), sigma, text)
    torch.testing.assert_close(ours, x_t - t.view(2, 1, 1, 1, 1) * v, rtol=1e-4, atol=1e-4)
    assert describe(denoiser).data_shape == (4, 2, 4, 6)
    assert denoiser.sigma_max == 3 * 999  # flow_shift 3
    with pytest.raises(CheckpointError, match="does not say how large a sample is: give the opti"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_of_qwen_image_d_is_the_transformers_x0(tmp_path: Path) -> None:
    from diffusers import QwenImagePipeline

    transformer, x_t, t = save_qwen_image(tmp_path), latents(4, 6, 8), torch.tensor([0.2, 0.8])
    text = prompts(pooled=False)
    with torch.no_grad():
        v = transformer(
            QwenImagePipeline._pack_latents(x_t, 2, 4, 6, 8),
            timestep=t,
            encoder_hidden_states=text.hidden,
            img_shapes=[[(1, 3, 4)]] * 2,
        ).sample
        v = QwenImagePipeline._unpack_latents(v, 48, 64, 8)[:, :, 0]
        denoiser = load_denoiser(f"diffusers:{tmp_path}", sample_size=[6, 8])
        sigma = t / (1 - t)
        ours = denoiser(x_t * (1 + sigma).view(2, 1, 1, 1), sigma, text)
    torch.testing.assert_close(ours, x_t - t.view(2, 1, 1, 1) * v, rtol=1e-4, atol=1e-4)
    assert describe(denoiser).data_shape == (4, 6, 8)
    assert describe(load_denoiser(f"diffusers:{tmp_path}")).data_shape == (4, 128, 128)
    save_qwen_image(tmp_path / "edit", zero_cond_t=True)
    with pytest.raises(CheckpointError, match="with zero_cond_t=True is not supported, only"):
        load_denoiser(f"diffusers:{tmp_path / 'edit'}")


def test_what_is_found_is_described(tmp_path: Path) -> None:
    save_sd3(tmp_path / "sd3", shift=3.0)
    save_flux(tmp_path / "flux", use_dynamic_shifting=True, base_shift=0.5)
    sd3 = load_denoiser(f"diffusers:{tmp_path / 'sd3'}")
    assert isinstance(sd3, FlowDenoiser)
    assert (sd3.shift, sd3.sigma_min, sd3.sigma_max) == (3.0, 3 / 999, 3 * 999)
    found = describe(sd3)
    assert (found.data_shape, found.parametrisation, found.condition) == ((4, 8, 8), "flow", "text")
    alone = load_denoiser(f"diffusers:{tmp_path / 'sd3' / 'transformer'}")  # beside ../scheduler
    assert describe(alone) == found
    flux = load_denoiser(f"diffusers:{tmp_path / 'flux'}", sample_size=[8, 8])
    assert describe(flux).data_shape == (4, 8, 8)
    assert flux.sigma_max == 999  # shifted by resolution, in samplers alone
    assert describe(load_denoiser(f"diffusers:{tmp_path / 'flux'}")).data_shape == (4, 128, 128)


@pytest.mark.parametrize(
    ("file", "settings", "message"),
    [
        (SCHEDULER, {"invert_sigmas": True}, "invert_sigmas is True, which makes a model of anot"),
        (SCHEDULER, {"flow": 2}, "the key 'flow' is not known, and it could change what"),
        (SCHEDULER, {"shift": "3"}, "num_train_timesteps and shift are 1000 and '3': no flow"),
        (
            SCHEDULER,
            {"_class_name": "DDIMScheduler"},
            "class is 'DDIMScheduler', without use_flow_sig",
        ),
        (
            CONFIG,
            {"out_channels": 8},
            "does not load|do not fit its SD3|takes 4 channels and makes",
        ),
        (CONFIG, {"mystery": 1}, "the key 'mystery' is not known"),
        (
            CONFIG,
            {"_class_name": "SanaTransformer2DModel"},
            "holds a SanaTransformer2DModel, no SD3Transformer2DModel or FluxTransformer2DModel",
        ),
    ],
    ids=str,
)
def test_what_would_make_another_model_is_refused(
    file: str, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save_sd3(tmp_path)
    change(tmp_path / file, **settings)
    with pytest.raises(CheckpointError, match=message):
        load_denoiser(f"diffusers:{tmp_path}")


def test_what_needs_more_than_text_is_refused(tmp_path: Path) -> None:
    save_qwen_image(tmp_path / "qwen", guidance_embeds=True)
    with pytest.raises(CheckpointError, match="with guidance_embeds=True is not supported, only"):
        load_denoiser(f"diffusers:{tmp_path / 'qwen'}")
    save_wan(tmp_path / "i2v", image_dim=8)
    with pytest.raises(CheckpointError, match="WanTransformer3DModel with image_dim=8 is not"):
        load_denoiser(f"diffusers:{tmp_path / 'i2v'}", sample_size=[1, 4, 4])
    two = {"transformer_2": ["diffusers", "WanTransformer3DModel"]}
    (tmp_path / "i2v" / "model_index.json").write_text(json.dumps(two))
    with pytest.raises(CheckpointError, match="has two transformers, one for high noise and one"):
        load_denoiser(f"diffusers:{tmp_path / 'i2v'}", sample_size=[1, 4, 4])
    (tmp_path / "i2v" / "model_index.json").unlink()
    scheduler = tmp_path / "i2v" / SCHEDULER
    assert json.loads(scheduler.read_text())["use_flow_sigmas"] is True
    change(scheduler, use_flow_sigmas=False)
    with pytest.raises(CheckpointError, match="only rectified flows are known"):
        load_denoiser(f"diffusers:{tmp_path / 'i2v'}", sample_size=[1, 4, 4])


def test_options_and_prompts_of_other_models_are_refused(tmp_path: Path) -> None:
    save_sd3(tmp_path)
    for name, value in (("lcm", True), ("lora", "x"), ("nearest_t", True)):
        with pytest.raises(ConfigError, match=f"option '{name}' is for U-Nets"):
            load_denoiser(f"diffusers:{tmp_path}", **{name: value})
    denoiser, x, sigma = load_denoiser(f"diffusers:{tmp_path}"), latents(4, 8, 8), torch.ones(2)
    with pytest.raises(DisBackError, match="needs encoded prompts, not none"):
        denoiser(x, sigma)
    with pytest.raises(DisBackError, match="encoded for another model"):
        denoiser(x, sigma, prompts(pooled=False))
    filled_up = replace(prompts(), mask=torch.ones(2, prompts().hidden.shape[1], dtype=torch.bool))
    with pytest.raises(DisBackError, match="takes no mask, and these prompts have one"):
        denoiser(x, sigma, filled_up)


@pytest.mark.parametrize("size", [[8], [1, 8, 8], [8, 0], [8, -8], [8, 7], [8, 8.0], [8, True]])
def test_a_size_that_is_none_is_refused(size: list[Any], tmp_path: Path) -> None:
    save_flux(tmp_path)
    message = r"option sample_size must be \[height, width\] of latents, .* multiples of \[2, 2\]"
    with pytest.raises(ConfigError, match=message):
        load_denoiser(f"diffusers:{tmp_path}", sample_size=size)


def test_wans_size_has_frames(tmp_path: Path) -> None:
    save_wan(tmp_path)
    with pytest.raises(ConfigError, match=r"must be \[frames, height, width\] of latents"):
        load_denoiser(f"diffusers:{tmp_path}", sample_size=[8, 8])


def test_guidance_that_is_embedded_may_be_zero_and_must_be_a_number(tmp_path: Path) -> None:
    save_flux(tmp_path, guidance_embeds=True)
    spec = f"diffusers:{tmp_path}"
    told = [None, 0.0, 0, 1.5]
    found = [load_denoiser(spec, embedded_guidance=one).network.embedded_guidance for one in told]
    assert found == [3.5, 0, 0, 1.5]
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="'embedded_guidance' must be a number from 0 up"):
            load_denoiser(spec, embedded_guidance=value)


def test_a_pipeline_that_needs_an_image_is_no_teacher(tmp_path: Path) -> None:
    """Its transformer is of the same class as the one from text alone."""
    save_flux(tmp_path)
    change(tmp_path / "model_index.json", _class_name="FluxKontextPipeline")
    for load in (load_denoiser, load_text_encoder):
        with pytest.raises(CheckpointError, match="of a 'FluxKontextPipeline'; .* as FluxPipeline"):
            load(f"diffusers:{tmp_path}")
