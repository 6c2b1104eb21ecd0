"""Heun's sampler follows the probability-flow ODE, whose solution on Gaussian data is known."""

import pytest
import torch
from torch import Tensor

from disback_plugin.diffusion import GaussianMixtureDenoiser, heun_sample

MEAN, STD = torch.tensor([1.0, -2.0], dtype=torch.float64), 0.5


class Counting(GaussianMixtureDenoiser):
    """Remembers the noise levels and conditions it was asked at."""

    asked: list[float]
    conds: list[Tensor | None]

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        self.asked.append(sigma[0].item())
        self.conds.append(cond)
        return super().denoise(x, sigma, cond)


def one_gaussian() -> Counting:
    denoiser = Counting(torch.ones(1), MEAN[None], STD)
    denoiser.asked, denoiser.conds = [], []
    return denoiser


def error(num_steps: int) -> float:
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    shrink = STD / (STD**2 + 80.0**2) ** 0.5
    exact = MEAN + (80 * z - MEAN) * shrink
    return (heun_sample(one_gaussian(), z, num_steps) - exact).abs().max().item()


def test_it_solves_the_ode_of_gaussian_data_with_second_order() -> None:
    assert error(80) < 5e-3
    assert error(40) / error(80) == pytest.approx(4, rel=0.2)


def test_it_costs_two_passes_a_step_but_one_in_the_last() -> None:
    denoiser = one_gaussian()
    heun_sample(denoiser, torch.zeros(1, 2), num_steps=3)
    assert len(denoiser.asked) == 5
    assert denoiser.asked[0] == 80.0
    assert denoiser.asked[-1] == pytest.approx(0.002)


def test_it_can_start_below_the_denoisers_highest_noise() -> None:
    denoiser = one_gaussian()
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)).double()
    exact = MEAN + (20 * z - MEAN) * STD / (STD**2 + 20.0**2) ** 0.5
    x = heun_sample(denoiser, z, 80, sigma_max=20.0)
    assert denoiser.asked[0] == pytest.approx(20.0)
    torch.testing.assert_close(x, exact, rtol=0, atol=5e-3)


def test_one_step_is_the_denoiser_itself() -> None:
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)).double()
    expected = one_gaussian()(80 * z, torch.full((5,), 80.0, dtype=torch.float64))
    torch.testing.assert_close(heun_sample(one_gaussian(), z, 1), expected)


def test_samples_of_a_mixture_have_its_weights_means_and_stds() -> None:
    denoiser = GaussianMixtureDenoiser(
        torch.tensor([0.7, 0.3]), torch.tensor([[-1.0], [1.0]]), torch.tensor([0.1, 0.2])
    )
    x = heun_sample(denoiser, torch.randn(4000, 1, generator=torch.Generator().manual_seed(0)), 40)
    left = x[x < 0]
    assert len(left) / 4000 == pytest.approx(0.7, abs=0.03)
    assert (left.mean().item(), left.std().item()) == pytest.approx((-1.0, 0.1), abs=0.02)
    right = x[x > 0]
    assert (right.mean().item(), right.std().item()) == pytest.approx((1.0, 0.2), abs=0.03)


def test_every_pass_is_told_the_condition() -> None:
    denoiser, cond = one_gaussian(), torch.zeros(3, dtype=torch.int64)
    heun_sample(denoiser, torch.zeros(3, 2), 4, cond)
    assert [seen is cond for seen in denoiser.conds] == [True] * 7


def test_it_is_deterministic_and_keeps_no_graph() -> None:
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    first = heun_sample(one_gaussian(), z, 5)
    assert torch.equal(first, heun_sample(one_gaussian(), z, 5))
    assert first.dtype == torch.float32
    assert not first.requires_grad
