"""x0, eps, v, flow and score are one quantity: each pair of conversions is an inverse."""

import math

import pytest
import torch

from disback_plugin.diffusion import (
    diffuse,
    eps_from_x0,
    flow_from_x0,
    score,
    v_from_x0,
    x0_from_eps,
    x0_from_flow,
    x0_from_score,
    x0_from_v,
)
from disback_plugin.errors import DisBackError

PAIRS = {
    "score": (score, x0_from_score),
    "eps": (eps_from_x0, x0_from_eps),
    "v": (v_from_x0, x0_from_v),
    "flow": (flow_from_x0, x0_from_flow),
}


@pytest.fixture
def noisy() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    eps = torch.randn(5, 2, 3, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.002, 0.1, 1.0, 7.0, 80.0], dtype=torch.float64)
    return x0, eps, sigma, diffuse(x0, sigma, eps)


@pytest.mark.parametrize("name", PAIRS)
def test_each_pair_is_an_inverse_at_every_noise_level(name: str, noisy: tuple) -> None:
    x0, _, sigma, x = noisy
    forth, back = PAIRS[name]
    assert not torch.allclose(forth(x0, x, sigma), x0)
    torch.testing.assert_close(back(forth(x0, x, sigma), x, sigma), x0, rtol=0, atol=1e-10)


def test_the_true_x0_gives_back_the_noise_and_the_conditional_score(noisy: tuple) -> None:
    x0, eps, sigma, x = noisy
    torch.testing.assert_close(eps_from_x0(x0, x, sigma), eps, rtol=0, atol=1e-9)
    expected = -eps / sigma.reshape(5, 1, 1)  # grad log q(x | x0)
    torch.testing.assert_close(score(x0, x, sigma), expected, rtol=1e-8, atol=1e-8)


def test_v_is_the_rotation_of_signal_and_noise(noisy: tuple) -> None:
    x0, eps, sigma, x = noisy
    angle = torch.atan(sigma).reshape(5, 1, 1)  # signal cos, noise sin
    expected = angle.cos() * eps - angle.sin() * x0
    torch.testing.assert_close(v_from_x0(x0, x, sigma), expected, rtol=0, atol=1e-9)


def test_v_at_equal_signal_and_noise_is_a_literal_value() -> None:
    sigma, x0, x = torch.tensor([1.0]), torch.tensor([[2.0]]), torch.tensor([[5.0]])
    assert v_from_x0(x0, x, sigma).item() == pytest.approx((3 - 2) / math.sqrt(2))


def test_gradients_at_x_are_gradients_at_x0() -> None:
    x0 = torch.zeros(3, 2, requires_grad=True)
    x = diffuse(x0, torch.tensor([0.1, 1.0, 80.0]), torch.ones(3, 2))
    x.backward(torch.full((3, 2), 7.0))
    assert torch.equal(x0.grad, torch.full((3, 2), 7.0))


@pytest.mark.parametrize("sigma", [torch.tensor(1.0), torch.ones(5, 1), torch.ones(4), 1.0])
def test_a_sigma_of_another_shape_is_refused_with_both_shapes(sigma: object) -> None:
    x = torch.zeros(5, 2)
    with pytest.raises(DisBackError, match=r"shape \(5,\) for a batch of shape \(5, 2\)"):
        score(x, x, sigma)
