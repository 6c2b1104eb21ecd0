"""Stable Diffusion, SDXL and LCM: one step of ours is one step of diffusers' own pipeline."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler, LCMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from disback_plugin.diffusion import (
    OneStepStudent,
    TextCondition,
    VPDenoiser,
    without_guidance,
)
from disback_plugin.errors import CheckpointError, DisBackError
from disback_plugin.lab.smoke.pipelines import save_ddpm, save_lora, save_sd, save_sdxl
from disback_plugin.pretrained import describe, load_denoiser, load_text_encoder
from tests.pretrained.diffusers.test_images import at, close

PROMPTS = ["a cat", "two dogs in a row"]


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sd")
    return folder, save_sd(folder)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("sdxl")
    return folder, save_sdxl(folder)


def one_step_of_the_pipeline(pipeline: Any, t: int, **settings: Any) -> tuple[Tensor, Tensor]:
    """Latents of unit variance, and x0 as the whole pipeline makes it of them at timestep t."""
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    made = pipeline(PROMPTS, timesteps=[t], latents=latents, output_type="latent", **settings)
    return latents, made.images


@torch.no_grad()
def one_step_of_ours(folder: Path, latents: Tensor, t: int, **options: Any) -> Tensor:
    denoiser = load_denoiser(f"diffusers:{folder}", **options)
    assert isinstance(denoiser, VPDenoiser)
    sigma = at(denoiser, torch.tensor([t, t]))
    x = latents * (1 + sigma[0] ** 2).sqrt()
    return denoiser(x, sigma, load_text_encoder(f"diffusers:{folder}")(PROMPTS))


@pytest.mark.parametrize("t", [999, 399])
@pytest.mark.parametrize("model", ["sd", "sdxl"])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_d_is_the_pipelines_x0(
    model: str, scale: float, t: int, request: pytest.FixtureRequest
) -> None:
    folder, pipeline = request.getfixturevalue(model)
    latents, theirs = one_step_of_the_pipeline(pipeline, t, guidance_scale=scale)
    close(one_step_of_ours(folder, latents, t, guidance_scale=scale), theirs)


@pytest.mark.parametrize("model", ["sd", "sdxl"])
def test_a_negative_prompt_is_the_pipelines(model: str, request: pytest.FixtureRequest) -> None:
    folder, pipeline = request.getfixturevalue(model)
    settings: dict[str, Any] = {"guidance_scale": 4.0}
    latents, theirs = one_step_of_the_pipeline(
        pipeline, 500, negative_prompt=["ugly", "ugly"], **settings
    )
    ours = one_step_of_ours(folder, latents, 500, negative_prompt="ugly", **settings)
    close(ours, theirs)
    assert not torch.equal(ours, one_step_of_ours(folder, latents, 500, **settings))


def test_v_prediction_of_sd_2_1(tmp_path: Path) -> None:
    pipeline = save_sd(tmp_path, prediction_type="v_prediction")
    latents, theirs = one_step_of_the_pipeline(pipeline, 700, guidance_scale=3.0)
    close(one_step_of_ours(tmp_path, latents, 700, guidance_scale=3.0), theirs)


def test_the_student_at_399_asks_the_network_at_399(sdxl: tuple[Path, Any]) -> None:
    folder, pipeline = sdxl
    latents, theirs = one_step_of_the_pipeline(pipeline, 399, guidance_scale=1.0)
    denoiser = load_denoiser(f"diffusers:{folder}")
    assert isinstance(denoiser, VPDenoiser)
    sigma = float(denoiser.schedule.sigma_of_t(torch.tensor(399.0, dtype=torch.float64)))
    assert denoiser.timestep(torch.tensor([sigma])).item() == 399
    with torch.no_grad():
        z = latents * (1 + sigma**2) ** 0.5 / sigma
        ours = OneStepStudent(denoiser, sigma)(z, load_text_encoder(f"diffusers:{folder}")(PROMPTS))
    close(ours, theirs)


def test_guidance_is_no_weight_and_can_be_taken_off(sd: tuple[Path, Any]) -> None:
    folder, _ = sd
    plain, guided = (load_denoiser(f"diffusers:{folder}", guidance_scale=s) for s in (1, 7.5))
    assert [p.shape for p in plain.state_dict().values()] == [
        p.shape for p in guided.state_dict().values()
    ]
    x, sigma = torch.randn(2, 4, 8, 8), torch.full((2,), 3.0)
    cond = load_text_encoder(f"diffusers:{folder}")(PROMPTS)
    assert not torch.equal(plain(x, sigma, cond), guided(x, sigma, cond))
    assert torch.equal(plain(x, sigma, cond), without_guidance(guided)(x, sigma, cond))


def test_prompts_must_be_encoded_and_for_this_model(
    sd: tuple[Path, Any], sdxl: tuple[Path, Any]
) -> None:
    denoiser, x, sigma = load_denoiser(f"diffusers:{sd[0]}"), torch.ones(1, 4, 8, 8), torch.ones(1)
    with pytest.raises(DisBackError, match="needs encoded prompts, not none"):
        denoiser(x, sigma)
    with pytest.raises(DisBackError, match="needs encoded prompts, not a Tensor"):
        denoiser(x, sigma, torch.tensor([0]))
    other = load_text_encoder(f"diffusers:{sdxl[0]}")(["a cat"])
    with pytest.raises(DisBackError, match="encoded for another model"):
        denoiser(x, sigma, other)
    encoder = load_text_encoder(f"diffusers:{sd[0]}")
    short = TextCondition(encoder(["a cat"]).hidden[:, :5])
    filled_up = TextCondition.cat([short, encoder(["a dog"])])
    with pytest.raises(DisBackError, match="takes no mask, and these prompts have one"):
        denoiser(x.expand(2, -1, -1, -1), sigma.expand(2), filled_up)


@pytest.fixture(scope="module")
def loras(sd: tuple[Path, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    unet = UNet2DConditionModel.from_pretrained(sd[0], subfolder="unet")
    return save_lora(tmp_path_factory.mktemp("lora"), unet)


@torch.no_grad()
def test_the_lcm_lora_student_is_the_lcm_schedulers_denoised(
    sd: tuple[Path, Any], loras: tuple[Path, Path]
) -> None:
    folder, pipeline = sd
    spec = f"diffusers:{folder}"
    student = load_denoiser(spec, lora=str(loras[0]), lcm=True)
    assert describe(student).parametrisation == "lcm"
    assert isinstance(student, VPDenoiser)
    condition = load_text_encoder(spec)(PROMPTS)
    scheduler = LCMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(str(loras[0]))
    try:
        for t in (999, 759, 499, 259, 19):
            scheduler.set_timesteps(timesteps=[t])
            sigma = at(student, torch.tensor([t, t]))
            sample = torch.randn(2, 4, 8, 8)
            eps = pipeline.unet(sample, t, encoder_hidden_states=condition.hidden).sample
            theirs = scheduler.step(eps, torch.tensor(t), sample).denoised
            close(student(sample * (1 + sigma[0] ** 2).sqrt(), sigma, condition), theirs)
    finally:
        pipeline.unload_lora_weights()


def test_a_lora_changes_the_weights_alike_in_both_formats(
    sd: tuple[Path, Any], loras: tuple[Path, Path]
) -> None:
    plain, diffusers, kohya = (
        load_denoiser(f"diffusers:{sd[0]}", lora=lora).state_dict()
        for lora in (None, str(loras[0]), str(loras[1]))
    )
    assert plain.keys() == diffusers.keys() == kohya.keys()
    changed = [name for name in plain if not torch.equal(plain[name], diffusers[name])]
    assert changed
    assert {name.split(".")[-2] for name in changed} == {"to_q", "to_k", "conv1"}
    for name in plain:
        torch.testing.assert_close(diffusers[name], kohya[name])


def test_another_models_lora_is_refused(
    loras: tuple[Path, Path], sd: tuple[Path, Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    state = load_file(loras[0])
    renamed = {name.replace("mid_block", "mid_blocks"): value for name, value in state.items()}
    save_file(renamed, tmp_path / "other.safetensors", metadata={"format": "pt"})
    spec = f"diffusers:{sd[0]}"
    with pytest.raises(CheckpointError, match="LoRA .*other.safetensors"):
        load_denoiser(spec, lora=str(tmp_path / "other.safetensors"))
    more = {**state, "text_encoder.layer.lora_A.weight": torch.ones(2, 2)}
    save_file(more, tmp_path / "more.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="holds more than a U-Net's LoRA"):
        load_denoiser(spec, lora=str(tmp_path / "more.safetensors"))
    with pytest.raises(CheckpointError, match="LoRA .* does not load"):
        load_denoiser(spec, lora=str(tmp_path / "missing.safetensors"))


def test_a_prompts_embedding_is_the_pipelines(sd: tuple[Path, Any], sdxl: tuple[Path, Any]) -> None:
    for folder, pipeline in (sd, sdxl):
        ours = load_text_encoder(f"diffusers:{folder}")(PROMPTS)
        with torch.no_grad():
            theirs = pipeline.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1,
                                            do_classifier_free_guidance=False)  # fmt: skip
        assert torch.equal(ours.hidden, theirs[0])
        assert (ours.pooled is None) == (len(theirs) == 2)
        if ours.pooled is not None:
            assert torch.equal(ours.pooled, theirs[2])


def test_a_model_without_text_has_no_text_encoder(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    with pytest.raises(CheckpointError, match="names no text_encoder"):
        load_text_encoder(f"diffusers:{tmp_path}")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"in_channels": 9}, "it needs an image besides the text"),
        ({"time_cond_proj_dim": 8}, "a U-Net with time_cond_proj_dim is not supported"),
        ({"num_class_embeds": 3}, "a U-Net with num_class_embeds is not supported"),
    ],
)
def test_u_nets_that_need_more_than_text_are_refused(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    from disback_plugin.lab.smoke.pipelines import text_unet

    text_unet(16, **config).save_pretrained(tmp_path / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(CheckpointError, match=message):
        load_denoiser(f"diffusers:{tmp_path}")
