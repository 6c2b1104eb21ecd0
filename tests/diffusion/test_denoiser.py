"""What every denoiser refuses and says; a one-step student is its denoiser at one noise level."""

import pytest
import torch

from disback_plugin.diffusion import (
    Description,
    EDMDenoiser,
    EpsDenoiser,
    GaussianMixtureDenoiser,
    OneStepStudent,
    alphas_cumprod,
)
from disback_plugin.errors import ConfigError, DisBackError

MEANS = torch.tensor([[0.0, 1.0], [2.0, -1.0]])


def test_it_asks_the_denoiser_at_sigma_times_the_latent() -> None:
    denoiser = GaussianMixtureDenoiser(torch.ones(2), MEANS, 0.5)
    z = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    cond = torch.tensor([0, 1, 0, 1, 0, 1])
    x0 = OneStepStudent(denoiser, sigma=2.0)(z, cond)
    expected = (0.25 * 2 * z + 4 * MEANS[cond]) / 4.25
    torch.testing.assert_close(x0, expected)


def test_before_distillation_an_edm_student_answers_with_the_mean_of_the_data() -> None:
    student = OneStepStudent(GaussianMixtureDenoiser(torch.ones(2), MEANS, 0.1), sigma=80.0)
    x0 = student(torch.randn(100, 2, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(x0, MEANS.mean(0).expand(100, 2), rtol=0, atol=0.1)


def test_a_ddpm_student_stands_at_the_last_timestep() -> None:
    denoiser = EpsDenoiser(torch.nn.Identity(), alphas_cumprod("linear"))
    sigma = torch.tensor([OneStepStudent(denoiser, denoiser.sigma_max).sigma])
    assert denoiser.timestep(sigma).item() == pytest.approx(999, abs=1e-3)


@pytest.mark.parametrize("sigma", [0.0, 81.0])
def test_a_sigma_outside_the_denoisers_range_is_refused(sigma: float) -> None:
    denoiser = GaussianMixtureDenoiser(torch.ones(2), MEANS, 0.1)
    with pytest.raises(ConfigError, match=rf"sigma is {sigma}, outside.*\[0\.002, 80\]"):
        OneStepStudent(denoiser, sigma)


def test_a_single_sigma_for_the_batch_is_refused() -> None:
    with pytest.raises(DisBackError, match=r"shape \(2,\).*it is \(\)"):
        EDMDenoiser(torch.nn.Identity())(torch.zeros(2, 3), torch.tensor(1.0))


def test_integer_samples_are_refused() -> None:
    with pytest.raises(DisBackError, match=r"floating-point tensor, but it is torch\.uint8"):
        EDMDenoiser(torch.nn.Identity())(torch.zeros(2, 3, dtype=torch.uint8), torch.ones(2))


def test_a_description_tells_range_weights_and_condition() -> None:
    network = torch.nn.Linear(3, 3)
    network.register_buffer("table", torch.zeros(100))
    found = Description.of(
        EDMDenoiser(network, sigma_max=40.0),
        source="edm-pkl",
        architecture="DDPM++",
        data_shape=(3, 8, 8),
        num_classes=10,
        parametrisation="edm",
    )
    assert (found.num_parameters, found.condition) == (12, "class")
    assert (found.sigma_min, found.sigma_max) == (0.002, 40.0)
    assert str(found) == (
        "edm-pkl: DDPM++, 1.2e-05 M parameters, 3x8x8, 10 classes, edm parametrisation, "
        "sigma 0.002 to 40"
    )
