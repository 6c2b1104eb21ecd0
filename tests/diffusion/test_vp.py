"""VP schedules have their published values, and sigma <-> t is an inverse."""

import math

import pytest
import torch

from disback_plugin.diffusion import VPSchedule, alphas_cumprod, vp_schedule
from disback_plugin.errors import ConfigError

NAMES = ["linear", "scaled_linear", "cosine"]


@pytest.mark.parametrize(
    ("name", "sigma_min", "sigma_max"),
    [("linear", 0.0100005, 157.4071), ("scaled_linear", 0.0291671, 14.61464)],
)
def test_schedules_end_at_their_published_noise_levels(
    name: str, sigma_min: float, sigma_max: float
) -> None:
    schedule = VPSchedule(alphas_cumprod(name))
    assert schedule.num_timesteps == 1000
    assert schedule.sigma_min == pytest.approx(sigma_min, rel=1e-5)
    assert schedule.sigma_max == pytest.approx(sigma_max, rel=1e-5)


def test_linear_starts_at_one_minus_its_first_betas() -> None:
    second = 1e-4 + (0.02 - 1e-4) / 999
    expected = [1 - 1e-4, (1 - 1e-4) * (1 - second)]
    assert alphas_cumprod("linear")[:2].tolist() == pytest.approx(expected, rel=1e-14)


def test_cosine_follows_the_squared_cosine_up_to_its_last_clipped_beta() -> None:
    def squared(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [squared((t + 1) / 1000) / squared(0) for t in (0, 499, 998)]
    bar = alphas_cumprod("cosine")
    assert bar[[0, 499, 998]].tolist() == pytest.approx(expected, rel=1e-9)
    assert (bar[999] / bar[998]).item() == pytest.approx(0.001)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-8), (torch.float32, 2e-3)])
def test_t_of_sigma_inverts_sigma_of_t_between_timesteps_too(
    name: str, dtype: torch.dtype, atol: float
) -> None:
    t = torch.linspace(0, 999, 777, dtype=dtype)
    schedule = vp_schedule(name)
    torch.testing.assert_close(schedule.t_of_sigma(schedule.sigma_of_t(t)), t, rtol=0, atol=atol)


@pytest.mark.parametrize("name", NAMES)
def test_at_integer_t_sigma_is_the_noise_to_signal_ratio(name: str) -> None:
    bar = alphas_cumprod(name)
    sigma = vp_schedule(name).sigma_of_t(torch.arange(1000).double())
    torch.testing.assert_close(sigma, ((1 - bar) / bar).sqrt(), rtol=1e-12, atol=0)


def test_outside_the_schedule_t_is_the_nearer_end() -> None:
    t = vp_schedule("linear").t_of_sigma(torch.tensor([1e-6, 1e6]))
    assert t.tolist() == [0.0, 999.0]


def test_half_precision_sigmas_are_looked_up_in_float32() -> None:
    sigma = torch.tensor([0.5, 8.0], dtype=torch.bfloat16)  # exact in bf16
    assert torch.equal(
        vp_schedule("linear").t_of_sigma(sigma), vp_schedule("linear").t_of_sigma(sigma.float())
    )


def test_an_unknown_schedule_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="'scaled-linear'; did you mean 'scaled_linear'"):
        alphas_cumprod("scaled-linear")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([0.9, 0.5, 0.0], "zero terminal SNR"),
        ([0.9, 0.95, 0.5], "fall strictly"),
        ([1.0, 0.9], "below 1"),
        ([[0.9, 0.5]], r"it is \(1, 2\)"),
    ],
)
def test_a_table_without_finite_rising_sigmas_is_refused(table: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VPSchedule(torch.tensor(table))
