"""The exact mixture denoiser is the posterior mean, checked by autograd and by Monte Carlo."""

import pytest
import torch

from disback_plugin.diffusion import GaussianMixtureDenoiser, score
from disback_plugin.errors import ConfigError, DisBackError

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 1.0], [-1.0, 0.5], [2.0, -1.0]], dtype=torch.float64)
STDS = torch.tensor([0.3, 0.6, 0.1], dtype=torch.float64)


def points(num: int) -> torch.Tensor:
    return 2 * torch.randn(num, 2, generator=torch.Generator().manual_seed(0)).double()


def test_one_component_gives_the_closed_form_posterior_mean() -> None:
    denoiser = GaussianMixtureDenoiser(torch.ones(1), torch.tensor([[2.0, -1.0]]), 0.5)
    x0 = denoiser(torch.tensor([[4.0, 1.0]]), torch.tensor([1.5]))
    # gain = .25 / (.25 + 2.25) = .1
    torch.testing.assert_close(x0, torch.tensor([[2.2, -0.8]]))


def test_its_score_is_the_gradient_of_the_noisy_log_density() -> None:
    x = points(20).requires_grad_()
    sigma = torch.logspace(-1, 1, 20, dtype=torch.float64)
    parts = []
    for weight, mean, std in zip(WEIGHTS, MEANS, STDS, strict=True):
        total = (std**2 + sigma**2)[:, None]
        normal = torch.distributions.Normal(mean, total.sqrt())
        parts.append(weight.log() + normal.log_prob(x).sum(1))
    torch.logsumexp(torch.stack(parts), 0).sum().backward()
    found = score(GaussianMixtureDenoiser(WEIGHTS, MEANS, STDS)(x, sigma), x, sigma)
    torch.testing.assert_close(found, x.grad, rtol=1e-9, atol=1e-9)


def test_a_condition_restricts_it_to_one_component() -> None:
    x, sigma = points(3), torch.full((3,), 0.8, dtype=torch.float64)
    found = GaussianMixtureDenoiser(WEIGHTS, MEANS, STDS)(x, sigma, torch.tensor([0, 1, 2]))
    for index in range(3):
        alone = GaussianMixtureDenoiser(torch.ones(1), MEANS[index : index + 1], STDS[index].item())
        expected = alone(x[index : index + 1], sigma[:1])
        torch.testing.assert_close(found[index : index + 1], expected)


def test_point_masses_give_a_softmax_average_of_the_points() -> None:
    denoiser = GaussianMixtureDenoiser(torch.ones(2), torch.tensor([[-1.0], [1.0]]), 0.0)
    x0 = denoiser(torch.tensor([[0.3]]), torch.tensor([0.5]))
    assert x0.item() == pytest.approx(torch.tanh(torch.tensor(0.3 / 0.25)).item(), rel=1e-6)


def test_images_are_handled_in_their_shape() -> None:
    means = MEANS.reshape(3, 1, 2, 1)
    sigma = torch.full((4,), 0.5, dtype=torch.float64)
    flat = GaussianMixtureDenoiser(WEIGHTS, MEANS, 0.2)(points(4), sigma)
    shaped = GaussianMixtureDenoiser(WEIGHTS, means, 0.2)(points(4).reshape(4, 1, 2, 1), sigma)
    assert torch.equal(shaped, flat.reshape(4, 1, 2, 1))


def test_autocast_leaves_it_exact() -> None:
    denoiser = GaussianMixtureDenoiser(WEIGHTS.float(), MEANS.float(), STDS.float())
    x, sigma = points(50).float(), torch.logspace(-1, 1, 50)
    expected = denoiser(x, sigma)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(denoiser(x, sigma), expected)


def test_weights_are_normalised_and_far_noise_gives_the_mean_of_the_data() -> None:
    denoiser = GaussianMixtureDenoiser(10 * WEIGHTS, MEANS, STDS)
    assert torch.equal(denoiser.weights, 10 * WEIGHTS / (10 * WEIGHTS).sum())
    x0 = denoiser(torch.zeros(1, 2).double(), torch.tensor([1e6], dtype=torch.float64))
    torch.testing.assert_close(x0, (WEIGHTS @ MEANS)[None], rtol=0, atol=1e-9)


def test_a_single_sigma_for_the_batch_is_refused() -> None:
    denoiser = GaussianMixtureDenoiser(WEIGHTS, MEANS, STDS)
    for sigma in (torch.tensor(1.0), torch.ones(4, 1)):
        with pytest.raises(DisBackError, match=r"shape \(4,\) for a batch of shape \(4, 2\)"):
            denoiser(points(4), sigma)


def test_weights_that_are_no_mixture_are_refused_with_their_values() -> None:
    with pytest.raises(ConfigError, match=r"3 positive weights.*shape \(2,\)"):
        GaussianMixtureDenoiser(torch.ones(2), MEANS, 0.1)
    with pytest.raises(ConfigError, match=r"\[1\.0, 1\.0, 0\.0\]"):
        GaussianMixtureDenoiser(torch.tensor([1.0, 1.0, 0.0]), MEANS, 0.1)
    with pytest.raises(ConfigError, match="stds >= 0"):
        GaussianMixtureDenoiser(torch.ones(3), MEANS, -0.1)
