"""Prompts of SD3, Flux, Qwen-Image and Wan: encoded, and asked with, as their pipelines do."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, WanPipeline
from torch import Tensor

from disback_plugin.diffusion import TextCondition
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.lab.smoke.pipelines import save_sd
from disback_plugin.pretrained import load_decoder, load_denoiser, load_text_encoder
from disback_plugin.pretrained.bare import bare_module
from tests.pretrained.diffusers.flow_pipelines import save_flux, save_qwen_image, save_sd3, save_wan
from tests.pretrained.diffusers.test_settings import change

PROMPTS = ["a cat", "two dogs in a row"]
SAVED = {"sd3": save_sd3, "flux": save_flux, "qwen": save_qwen_image, "wan": save_wan}
SIZES = {"sd3": [8, 8], "flux": [8, 8], "qwen": [8, 8], "wan": [1, 8, 8]}


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """name -> its folder and the pipeline that lies there."""
    root = tmp_path_factory.mktemp("flows")
    settings: dict[str, dict[str, Any]] = {"flux": {"guidance_embeds": True}}
    made = {
        name: (root / name, save(root / name, text=True, **settings.get(name, {})))
        for name, save in SAVED.items()
    }
    for _, pipeline in made.values():
        pipeline.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()
def encoded(name: str, pipeline: Any) -> TextCondition:
    """By the pipeline itself, with the lengths that its call has."""
    if name == "sd3":
        hidden, _, pooled, _ = pipeline.encode_prompt(PROMPTS, PROMPTS, PROMPTS)
        return TextCondition(hidden, pooled)
    if name == "flux":
        return TextCondition(*pipeline.encode_prompt(PROMPTS)[:2])
    if name == "qwen":
        hidden, mask = pipeline.encode_prompt(PROMPTS, max_sequence_length=512)
        return TextCondition(hidden, mask=mask.bool())
    return TextCondition(pipeline.encode_prompt(PROMPTS, max_sequence_length=512)[0])


@pytest.mark.parametrize("name", SAVED)
def test_a_prompts_embedding_is_the_pipelines(
    name: str, pipelines: dict[str, tuple[Path, Any]]
) -> None:
    folder, pipeline = pipelines[name]
    ours, theirs = load_text_encoder(f"diffusers:{folder}")(PROMPTS), encoded(name, pipeline)
    assert torch.equal(ours.hidden, theirs.hidden)
    for own, due in ((ours.pooled, theirs.pooled), (ours.mask, theirs.mask)):
        assert (own is None) == (due is None)
        assert own is None or torch.equal(own, due)
    short = load_text_encoder(f"diffusers:{folder}", max_sequence_length=16)(PROMPTS)
    assert short.hidden.shape[1] == {"sd3": 77 + 16}.get(name, 16)
    half = load_text_encoder(f"diffusers:{folder}", text_dtype="bf16")(PROMPTS).hidden
    assert half.dtype == torch.bfloat16
    assert (half - ours.hidden).abs().mean() < 0.05


ONE_STEP = DPMSolverMultistepScheduler(  # Wan's own begins between two timesteps
    prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
)
ASKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # the pipeline, and load_denoiser
    "sd3": (
        {"guidance_scale": 4.0, "negative_prompt": ["ugly", "ugly"]},
        {"guidance_scale": 4.0, "negative_prompt": "ugly"},
    ),
    "flux": (
        {"guidance_scale": 2.5, "true_cfg_scale": 4.0, "negative_prompt": ["", ""]},
        {"embedded_guidance": 2.5, "guidance_scale": 4.0},
    ),
    "qwen": ({"true_cfg_scale": 1.0}, {}),
    "wan": (
        {"guidance_scale": 3.0, "negative_prompt": ["ugly", "ugly"], "num_frames": 1},
        {"guidance_scale": 3.0, "negative_prompt": "ugly"},
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_d_with_prompts_and_guidance_is_the_pipelines_x0(
    name: str, pipelines: dict[str, tuple[Path, Any]]
) -> None:
    (folder, pipeline), (theirs, ours) = pipelines[name], ASKED[name]
    shape = (2, 4, *SIZES[name])
    x_t = given = torch.randn(shape, generator=torch.Generator().manual_seed(7))
    if name == "wan":
        pipeline = WanPipeline(**{**pipeline.components, "scheduler": ONE_STEP})
    else:
        theirs = {"sigmas": [0.6], **theirs}
    if name in ("flux", "qwen"):
        given = pipeline._pack_latents(x_t, *shape)
    told = {"height": 64, "width": 64, "num_inference_steps": 1, **theirs}
    due = pipeline(PROMPTS, latents=given, output_type="latent", return_dict=False, **told)[0]
    if name in ("flux", "qwen"):
        due = pipeline._unpack_latents(due, 64, 64, 8).reshape(shape)
    t = pipeline.scheduler.sigmas[0].item()
    size = {} if name == "sd3" else {"sample_size": SIZES[name]}
    found = asked(folder, x_t, t, **ours, **size)
    torch.testing.assert_close(found, due, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def asked(folder: Path, x_t: Tensor, t: float, **options: Any) -> Tensor:
    """D of all prompts at once, at the flow's time t."""
    denoiser = load_denoiser(f"diffusers:{folder}", **options)
    text = load_text_encoder(f"diffusers:{folder}")(PROMPTS)
    sigma = torch.full((2,), t / (1 - t))
    return denoiser(x_t * (1 + sigma[0]), sigma, text)


def test_what_fills_a_shorter_prompt_up_does_not_count(
    pipelines: dict[str, tuple[Path, Any]],
) -> None:
    """Qwen-Image's prompts differ in length; they are encoded alone and then asked together."""
    spec = f"diffusers:{pipelines['qwen'][0]}"
    encoder = load_text_encoder(spec)
    alone = [encoder([prompt]) for prompt in PROMPTS]
    assert [part.mask for part in alone] == [None, None]
    together = TextCondition.cat(alone)
    assert together.mask is not None
    assert together.mask.sum(1).tolist() == [part.hidden.shape[1] for part in alone]
    denoiser = load_denoiser(spec, sample_size=[8, 8], guidance_scale=3.0, negative_prompt="ug")
    x, sigma = torch.randn(2, 4, 8, 8), torch.full((2,), 2.0)
    with torch.no_grad():
        both = denoiser(x, sigma, together)
        for row, part in enumerate(alone):
            one = denoiser(x[row : row + 1], sigma[:1], part)
            torch.testing.assert_close(both[row : row + 1], one, rtol=1e-4, atol=1e-4)
        unmasked = denoiser(x, sigma, TextCondition(together.hidden))
    assert not torch.allclose(both[:1], unmasked[:1], atol=1e-3)


def test_sd3_without_its_t5_has_zeros_there(tmp_path: Path) -> None:
    pipeline = save_sd3(tmp_path, text=True, t5=False)
    ours = load_text_encoder(f"diffusers:{tmp_path}")(PROMPTS)
    assert torch.equal(ours.hidden, encoded("sd3", pipeline).hidden)
    assert ours.hidden[:, 77:].abs().max() == 0


@pytest.mark.parametrize("name", ["sd3", "wan", "qwen"])
def test_the_decoder_is_the_pipelines(name: str, pipelines: dict[str, tuple[Path, Any]]) -> None:
    """Latents are shifted, or scaled by channel; a video of one frame is an image."""
    folder, pipeline = pipelines[name]
    decoder, latents = load_decoder(f"diffusers:{folder}"), torch.randn(2, 4, 8, 8)
    config = pipeline.vae.config
    with torch.no_grad():
        if name == "sd3":
            due = pipeline.vae.decode(latents / 1.5 + 0.06).sample
        else:
            mean, std = (torch.tensor(v) for v in (config.latents_mean, config.latents_std))
            scaled = latents * std[:, None, None] + mean[:, None, None]
            due = pipeline.vae.decode(scaled[:, :, None]).sample[:, :, 0]
    given = latents[:, :, None] if name == "wan" else latents
    torch.testing.assert_close(decoder(given), due, rtol=1e-4, atol=1e-5)
    assert (decoder.factor, decoder.channels) == (8, 3)


def test_a_transformers_weights_alone_are_laid_over_its_base(
    pipelines: dict[str, tuple[Path, Any]], tmp_path: Path
) -> None:
    folder, pipeline = pipelines["flux"]
    state = {name: value + 1 for name, value in pipeline.transformer.state_dict().items()}
    torch.save(state, tmp_path / "student.bin")
    options = {"sample_size": [8, 8], "embedded_guidance": 2.0}
    base = f"diffusers:{folder}"
    found = load_denoiser(f"weights:{tmp_path}/student.bin", base=base, **options)
    own = bare_module(found).state_dict()
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own)
    text = load_text_encoder(f"weights:{tmp_path}/student.bin", base=base, **options)(PROMPTS)
    assert torch.equal(text.hidden, load_text_encoder(base)(PROMPTS).hidden)


def test_text_parts_of_another_kind_are_refused(tmp_path: Path) -> None:
    save_flux(tmp_path / "flux", text=True)
    other = ["transformers", "BertModel"]
    index = tmp_path / "flux/model_index.json"
    before = json.loads(index.read_text())["text_encoder_2"]
    change(index, text_encoder_2=other)
    with pytest.raises(CheckpointError, match="its text_encoder_2 is .*are read are T5EncoderM"):
        load_text_encoder(f"diffusers:{tmp_path}/flux")
    change(index, text_encoder_2=before)
    with pytest.raises(ConfigError, match="'embedded_guidance' is for a Flux with guidance_embeds"):
        load_denoiser(f"diffusers:{tmp_path}/flux", embedded_guidance=2.0)
    for length in (0, -3, 513):
        for load in (load_denoiser, load_text_encoder):
            with pytest.raises(ConfigError, match=f"is 1 to 512 tokens of FluxP.*, not {length}"):
                load(f"diffusers:{tmp_path}/flux", max_sequence_length=length)
    save_sd(tmp_path / "sd")
    for load in (load_denoiser, load_text_encoder):
        with pytest.raises(ConfigError, match="'max_sequence_length' is for transformers"):
            load(f"diffusers:{tmp_path}/sd", max_sequence_length=16)
    with pytest.raises(ConfigError, match="option 'text_dtype' is 'bf17'; "):
        load_text_encoder(f"diffusers:{tmp_path}/sd", text_dtype="bf17")
