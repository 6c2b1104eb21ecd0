"""A rectified flow: the exact velocity is the exact denoiser; a shift moves levels alone."""

import pytest
import torch
from torch import Tensor, nn

from disback_plugin.diffusion import FlowDenoiser, ShiftedT, flow_from_x0, x0_from_flow
from disback_plugin.diffusion.flow import sigma_of_t, t_of_sigma
from disback_plugin.errors import ConfigError

MEAN, STD = 1.5, 0.7  # the data: N(MEAN, STD^2) in every dimension


class ExactVelocity(nn.Module):
    """E[eps - x0 | x_t] of that Gaussian, in closed form; remembers what it was asked."""

    def forward(self, x_t: Tensor, timestep: Tensor, cond: Tensor | None) -> Tensor:
        self.seen = x_t, timestep
        t = timestep[:, None] / 1000
        gap = (x_t - (1 - t) * MEAN) / ((1 - t) ** 2 * STD**2 + t**2)  # (x_t - E x_t) / var x_t
        return t * gap - (MEAN + (1 - t) * STD**2 * gap)


def levels(t: list[float]) -> Tensor:
    return sigma_of_t(torch.tensor(t, dtype=torch.float64))


def test_the_exact_velocity_gives_the_posterior_mean() -> None:
    sigma = levels([0.001, 0.1, 0.5, 0.9, 0.999])
    x = MEAN + 5 * torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).double()
    expected = (STD**2 * x + sigma[:, None] ** 2 * MEAN) / (STD**2 + sigma[:, None] ** 2)
    for shift in (1.0, 3.0):  # the sampler's: the denoiser is the same
        given = FlowDenoiser(ExactVelocity(), shift)(x, sigma)
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-10)


def test_the_network_is_asked_at_the_interpolation_and_its_time() -> None:
    network, t = ExactVelocity(), torch.tensor([0.25, 0.8], dtype=torch.float64)
    x0, eps = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2)).double()
    sigma = sigma_of_t(t)
    FlowDenoiser(network)(x0 + sigma[:, None] * eps, sigma)
    torch.testing.assert_close(network.seen[0], (1 - t)[:, None] * x0 + t[:, None] * eps)
    torch.testing.assert_close(network.seen[1], 1000 * t)


def test_the_true_x0_gives_the_straight_lines_velocity_and_back() -> None:
    sigma = levels([0.001, 0.5, 0.999])
    x0, eps = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3)).double()
    x = x0 + sigma[:, None] * eps
    torch.testing.assert_close(flow_from_x0(x0, x, sigma), eps - x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(x0_from_flow(eps - x0, x, sigma), x0, rtol=0, atol=1e-9)


def test_t_and_sigma_are_inverses_with_the_flows_ends() -> None:
    t = torch.tensor([0.0, 0.001, 0.5, 0.75, 0.999], dtype=torch.float64)
    assert sigma_of_t(t)[[0, 2, 3]].tolist() == [0.0, 1.0, 3.0]
    torch.testing.assert_close(t_of_sigma(sigma_of_t(t)), t, rtol=0, atol=1e-15)
    x = torch.randn(1, 2, generator=torch.Generator().manual_seed(4)).double()
    given = FlowDenoiser(ExactVelocity())(x, torch.tensor([1e-9]).double())
    torch.testing.assert_close(given, x, rtol=0, atol=1e-7)  # t = 0: data


@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_a_shift_multiplies_sigma_and_moves_the_range(shift: float) -> None:
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    shifted = shift * t / (1 + (shift - 1) * t)  # Esser et al. 2024, Eq. 23
    torch.testing.assert_close(sigma_of_t(shifted), sigma_of_t(t, shift))
    denoiser = FlowDenoiser(ExactVelocity(), shift)
    ends = torch.tensor([1, 999], dtype=torch.float64) / 1000
    expected = sigma_of_t(shift * ends / (1 + (shift - 1) * ends)).tolist()
    assert [denoiser.sigma_min, denoiser.sigma_max] == pytest.approx(expected, rel=1e-9)
    assert denoiser.sigma_at(torch.tensor(750.0)).item() == pytest.approx(3.0)


def test_shifted_levels_are_uniform_in_the_unshifted_time() -> None:
    generator = torch.Generator().manual_seed(0)
    sigmas = ShiftedT(shift=3.0, low=0.2, high=0.8).sample(100_000, generator)
    t = t_of_sigma(sigmas / 3).sort().values
    assert 0.2 <= t[0] < t[-1] <= 0.8
    assert (t - torch.linspace(0.2, 0.8, 100_000)).abs().max() < 0.005


def test_impossible_flows_are_refused() -> None:
    for shift, number in ((0.0, 1000), (1.0, 2)):
        with pytest.raises(ConfigError, match=f"shift > 0 and num_timesteps > 2, not {shift} and"):
            FlowDenoiser(nn.Identity(), shift, number)
    with pytest.raises(ValueError, match=r"low must be below high, not 0\.9 and 0\.1"):
        ShiftedT(low=0.9, high=0.1)
