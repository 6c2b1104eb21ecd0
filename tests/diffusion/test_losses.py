"""Denoising score matching has its known minimum, at the exact denoiser."""

import pytest
import torch

from disback_plugin.diffusion import (
    GaussianMixtureDenoiser,
    denoising_score_matching,
    diffuse,
    eps_from_x0,
)
from disback_plugin.errors import ConfigError

STD, SIGMA = 0.5, 0.7
POSTERIOR = STD**2 * SIGMA**2 / (STD**2 + SIGMA**2)  # Var[x0 | x]


@pytest.fixture(scope="module")
def exact() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x0_hat of the exact denoiser, x0 and sigma for 400,000 one-dimensional samples."""
    generator = torch.Generator().manual_seed(0)
    x0 = STD * torch.randn(400_000, 1, generator=generator)
    sigma = torch.full((400_000,), SIGMA)
    x = diffuse(x0, sigma, torch.randn(400_000, 1, generator=generator))
    return GaussianMixtureDenoiser(torch.ones(1), torch.zeros(1, 1), STD)(x, sigma), x0, sigma


@pytest.mark.parametrize(
    ("weighting", "weight"),
    [
        ("uniform", 1.0),
        ("eps", 1 / SIGMA**2),
        ("edm", (SIGMA**2 + STD**2) / (SIGMA * STD) ** 2),
        ("dmd2", 1 / SIGMA**2 + 1 / STD**2),
    ],
)
def test_the_minimum_is_the_weighted_posterior_variance(
    weighting: str, weight: float, exact: tuple
) -> None:
    loss = denoising_score_matching(*exact, weighting, sigma_data=STD)
    assert loss.item() == pytest.approx(weight * POSTERIOR, rel=0.01)


@pytest.mark.parametrize("offset", [-0.1, 0.1])
def test_any_offset_from_the_exact_denoiser_costs_its_square(offset: float, exact: tuple) -> None:
    x0_hat, x0, sigma = exact
    best = denoising_score_matching(x0_hat, x0, sigma, "uniform")
    worse = denoising_score_matching(x0_hat + offset, x0, sigma, "uniform")
    assert (worse - best).item() == pytest.approx(offset**2, rel=0.05)


def test_eps_weighting_is_the_mean_squared_error_of_the_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps, x0_hat = torch.randn(3, 4, 2, 3, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.1, 1.0, 3.0, 20.0], dtype=torch.float64)
    x = diffuse(x0, sigma, eps)
    expected = (eps_from_x0(x0_hat, x, sigma) - eps).square().mean()
    torch.testing.assert_close(denoising_score_matching(x0_hat, x0, sigma, "eps"), expected)


def test_each_sample_has_the_weight_of_its_own_sigma() -> None:
    sigma = torch.tensor([0.5, 2.0])
    loss = denoising_score_matching(torch.ones(2, 3), torch.zeros(2, 3), sigma, "eps")
    assert loss.item() == pytest.approx((4 + 0.25) / 2)


def test_half_precision_predictions_are_compared_in_float32() -> None:
    x0 = torch.full((1, 1), 1.0)
    x0_hat = torch.full((1, 1), 1.0078125, dtype=torch.bfloat16)  # one bf16 ulp above
    loss = denoising_score_matching(x0_hat, x0, torch.ones(1), "uniform")
    assert loss.dtype == torch.float32
    assert loss.item() == 2.0**-14


def test_an_unknown_weighting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'dmd'; did you mean 'dmd2'"):
        denoising_score_matching(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1), "dmd")
