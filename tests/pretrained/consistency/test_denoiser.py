"""The denoisers around the U-Net: scalings, labels, dtypes, facts."""

import copy
from dataclasses import replace

import pytest
import torch

from disback_plugin.diffusion import Description, EDMDenoiser, PreconditionedDenoiser
from disback_plugin.errors import CheckpointError, ConfigError, DisBackError
from disback_plugin.lab.smoke.openai import Config, fill, shapes
from disback_plugin.pretrained.consistency import (
    OpenAIEDMDenoiser,
    build_unet,
    infer_architecture,
    make_denoiser,
)
from tests.pretrained.consistency.checkpoints import CASES, inputs


def make(config: Config, parametrisation: str = "consistency") -> PreconditionedDenoiser:
    tensors = fill(shapes(config))
    found = infer_architecture(tensors, config.num_head_channels, config.size)
    return make_denoiser(build_unet(tensors, found), parametrisation)


@torch.no_grad()
def test_the_smallest_noise_level_returns_its_input_exactly() -> None:
    denoiser = make(CASES["lsun"])
    x = inputs(CASES["lsun"])[0]
    assert torch.equal(denoiser(x, torch.full((2,), 0.002)), x)
    assert not torch.allclose(denoiser(x, torch.full((2,), 0.1)), x, atol=1e-3)


def test_an_edm_teacher_differs_from_edm_in_its_time_input_only() -> None:
    sigma = torch.tensor([0.002, 0.5, 80.0])
    theirs = OpenAIEDMDenoiser(torch.nn.Identity()).scalings(sigma)
    edm = EDMDenoiser(torch.nn.Identity()).scalings(sigma)
    for name in ("c_skip", "c_out", "c_in"):
        assert torch.equal(getattr(theirs, name), getattr(edm, name))
    torch.testing.assert_close(theirs.c_noise, torch.tensor([-1553.6520, -173.2868, 1095.5067]))


@torch.no_grad()
def test_labels_are_ids_or_one_hot_rows() -> None:
    denoiser = make(CASES["imagenet"])
    x, sigma, labels = inputs(CASES["imagenet"])
    by_id = denoiser(x, sigma, labels)
    assert torch.equal(by_id, denoiser(x, sigma, torch.eye(10)[labels]))
    assert not torch.allclose(by_id, denoiser(x, sigma, labels.flip(0)), atol=1e-3)
    with pytest.raises(DisBackError, match="needs class labels, 0 to 9"):
        denoiser(x, sigma)
    with pytest.raises(DisBackError, match="labels reach from 1 to 10, .* 0 to 9"):
        denoiser(x, sigma, torch.tensor([1, 10]))
    unconditional = make(CASES["lsun"])
    with pytest.raises(DisBackError, match="takes no class labels"):
        unconditional(x, sigma, labels)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 5e-3), (torch.bfloat16, 4e-2)])
def test_half_precision_stays_near_float32(dtype: torch.dtype, tolerance: float) -> None:
    denoiser = make(CASES["lsun"])
    x, sigma, _ = inputs(CASES["lsun"])
    whole = denoiser(x, sigma)
    half = copy.deepcopy(denoiser).to(dtype)(x, sigma)
    assert half.dtype == torch.float32
    assert 0 < (half - whole).abs().max() <= tolerance * whole.abs().max()


def test_its_description_tells_what_the_file_did_not() -> None:
    assert make(CASES["mixed"], "edm").description == Description(
        source="cm",
        architecture="UNet2DModel of 32-96-64-64 channels, 1 blocks a level, attention at 8, 2 "
        "with heads of 32, scale-shift conditioning, conv resampling",
        num_parameters=sum(value.numel() for value in fill(shapes(CASES["mixed"])).values()),
        data_shape=(2, 8, 8),
        num_classes=0,
        parametrisation="edm",
        sigma_min=0.002,
        sigma_max=80.0,
    )


def test_a_learned_variance_is_no_consistency_model() -> None:
    with pytest.raises(CheckpointError, match="makes 6 channels of 3 .*learned variance"):
        make(replace(CASES["lsun"], out_channels=6))


def test_an_unknown_parametrisation_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be consistency or edm, not 'vp'"):
        make(CASES["lsun"], "vp")
