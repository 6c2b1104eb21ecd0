"""DDPM and DDIM pipelines: D is the pipeline's own predicted x0, at every timestep."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import OneStepStudent, VPDenoiser
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.lab.smoke.pipelines import save_ddpm, tiny_unet
from disback_plugin.pretrained import describe, load_denoiser
from tests.pretrained.diffusers.pipelines import save_ddim


def close(ours: Tensor, theirs: Tensor) -> None:
    scale = theirs.abs().amax(dim=tuple(range(1, theirs.ndim)), keepdim=True)
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


def at(denoiser: VPDenoiser, steps: Tensor) -> Tensor:
    return denoiser.schedule.sigma_of_t(steps.double()).float()


@torch.no_grad()
def ours_and_theirs(folder: Path, scheduler: Any, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Our D at sigma(t) of x, and the scheduler's predicted x0 of the same sample in VP scale."""
    denoiser = load_denoiser(f"diffusers:{folder}")
    assert isinstance(denoiser, VPDenoiser)
    sigma = at(denoiser, steps)
    shaped = sigma.reshape(-1, 1, 1, 1)
    x0 = torch.randn(len(steps), 3, 8, 8, generator=torch.Generator().manual_seed(2))
    x = x0 + shaped * torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    samples = x / (1 + shaped**2).sqrt()
    answers = denoiser.network.unet(samples, steps).sample
    theirs = [
        scheduler.step(answer, int(t), sample).pred_original_sample
        for answer, t, sample in zip(answers, steps, samples, strict=True)
    ]
    return denoiser(x, sigma), torch.stack(theirs)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": torch.linspace(1e-3, 0.03, 1000).tolist()},
        {"prediction_type": "v_prediction"},
        {"prediction_type": "sample"},
    ],
    ids=["linear", "scaled_linear", "squaredcos_cap_v2", "trained_betas", "v", "x0"],
)
def test_d_is_the_ddpm_schedulers_predicted_x0_at_every_timestep(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    scheduler = save_ddpm(tmp_path, **settings)
    close(*ours_and_theirs(tmp_path, scheduler, torch.arange(1000)))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_d_is_the_ddim_schedulers_predicted_x0(prediction: str, tmp_path: Path) -> None:
    scheduler = save_ddim(tmp_path, prediction_type=prediction)
    scheduler.set_timesteps(1000)
    close(*ours_and_theirs(tmp_path, scheduler, torch.arange(0, 1000, 37)))


def test_whole_timesteps_come_back_exactly_from_their_sigma(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    denoiser = load_denoiser(f"diffusers:{tmp_path}")
    assert isinstance(denoiser, VPDenoiser)
    steps = torch.arange(1000.0)
    assert torch.equal(denoiser.timestep(at(denoiser, steps)), steps)
    continuous = load_denoiser(f"diffusers:{tmp_path}", nearest_t=False)
    assert isinstance(continuous, VPDenoiser)
    between = continuous.timestep(at(continuous, steps[:-1] + 0.5))
    torch.testing.assert_close(between, steps[:-1] + 0.5, rtol=0, atol=2e-3)


def test_a_student_at_t_999_is_the_pipelines_first_step(tmp_path: Path) -> None:
    scheduler = save_ddpm(tmp_path)
    denoiser = load_denoiser(f"diffusers:{tmp_path}")
    z = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        ours = OneStepStudent(denoiser, denoiser.sigma_max)(z)
        sample = z * float((1 - scheduler.alphas_cumprod[999]).sqrt())
        theirs = scheduler.step(denoiser.network.unet(sample, 999).sample, 999, sample)
    close(ours, theirs.pred_original_sample)


def test_labels_are_ids_or_one_hot_and_must_be_there(tmp_path: Path) -> None:
    save_ddpm(tmp_path, tiny_unet(num_class_embeds=4))
    denoiser = load_denoiser(f"diffusers:{tmp_path}")
    assert describe(denoiser).num_classes == 4
    x, sigma, ids = torch.randn(3, 3, 8, 8), torch.full((3,), 2.0), torch.tensor([0, 3, 1])
    answer = denoiser(x, sigma, ids)
    assert torch.equal(answer, denoiser(x, sigma, torch.nn.functional.one_hot(ids, 4)))
    assert not torch.equal(answer, denoiser(x, sigma, torch.tensor([1, 3, 1])))
    with pytest.raises(DisBackError, match="needs class labels, 0 to 3"):
        denoiser(x, sigma)


def test_an_unconditional_model_refuses_labels(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    with pytest.raises(DisBackError, match="takes no class labels"):
        load_denoiser(f"diffusers:{tmp_path}")(
            torch.randn(1, 3, 8, 8), torch.ones(1), torch.tensor([0])
        )


def test_a_learned_variance_is_left_out(tmp_path: Path) -> None:
    save_ddpm(tmp_path, tiny_unet(out_channels=6), variance_type="learned_range")
    denoiser = load_denoiser(f"diffusers:{tmp_path}")
    x = torch.randn(2, 3, 8, 8)
    assert denoiser(x, torch.ones(2)).shape == x.shape
    assert describe(denoiser).data_shape == (3, 8, 8)


def test_a_unet_that_answers_in_other_channels_is_refused(tmp_path: Path) -> None:
    save_ddpm(tmp_path, tiny_unet(out_channels=1))
    with pytest.raises(CheckpointError, match="the U-Net takes 3 channels and makes 1"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_what_was_found_is_said(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    assert str(describe(load_denoiser(f"diffusers:{tmp_path}"))) == (
        "diffusers: UNet2DModel, 0.0453 M parameters, 3x8x8, unconditional, eps parametrisation, "
        "sigma 0.01 to 157.4"
    )


def test_unet_and_scheduler_may_lie_at_the_top_or_the_unet_be_named(tmp_path: Path) -> None:
    save_ddpm(tmp_path / "usual", beta_end=0.03)
    top = tmp_path / "top"
    top.mkdir()
    for part in ("unet", "scheduler"):
        for file in (tmp_path / "usual" / part).iterdir():
            (top / file.name).write_bytes(file.read_bytes())
    x, sigma = torch.randn(1, 3, 8, 8), torch.full((1,), 3.0)
    places = [tmp_path / "usual", top, tmp_path / "usual" / "unet"]
    answers = [load_denoiser(f"diffusers:{place}")(x, sigma) for place in places]
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_ddpm(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    missing = {name: value for name, value in whole.items() if name != "conv_in.bias"}
    save_file(missing, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not fit its UNet2DModel: missing.*conv_in.bias"):
        load_denoiser(f"diffusers:{tmp_path}")
    save_file({**whole, "more": torch.ones(1)}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"unexpected_keys: \['more'\]"):
        load_denoiser(f"diffusers:{tmp_path}")
    save_file({**whole, "conv_in.bias": torch.ones(3)}, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="does not load.*conv_in.bias"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    file.unlink()
    torch.save({}, file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match=r"UNet2DModel in .* does not load.*safetensors"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_a_scheduler_that_is_no_vp_diffusion_is_refused(tmp_path: Path) -> None:
    from diffusers import ScoreSdeVeScheduler

    save_ddpm(tmp_path)
    ScoreSdeVeScheduler().save_pretrained(tmp_path / "scheduler")
    with pytest.raises(CheckpointError, match="ScoreSdeVeScheduler of .* has no alphas_cumprod"):
        load_denoiser(f"diffusers:{tmp_path}")


def test_options_of_text_models_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    save_ddpm(tmp_path)
    with pytest.raises(ConfigError, match="option 'guidance_scale' is for text models"):
        load_denoiser(f"diffusers:{tmp_path}", guidance_scale=7.5)
    with pytest.raises(ConfigError, match="format 'diffusers' has no option 'guidance'"):
        load_denoiser(f"diffusers:{tmp_path}", guidance=7.5)


def test_half_precision_weights_are_loaded_in_float32(tmp_path: Path) -> None:
    save_ddpm(tmp_path / "full")
    unet = tiny_unet().half()
    unet.save_pretrained(tmp_path / "half" / "unet", variant="fp16")
    (tmp_path / "full" / "scheduler").rename(tmp_path / "half" / "scheduler")
    denoiser = load_denoiser(f"diffusers:{tmp_path}/half", variant="fp16")
    assert {value.dtype for value in denoiser.parameters()} == {torch.float32}
    assert torch.equal(denoiser.network.unet.conv_in.weight, unet.conv_in.weight.float())
    with pytest.raises(CheckpointError, match="does not load"):
        load_denoiser(f"diffusers:{tmp_path}/half")
