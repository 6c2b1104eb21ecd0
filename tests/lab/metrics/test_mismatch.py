"""Stable Target Field, mismatch and node health against closed forms on Gaussians."""

import pytest
import torch

from disback_plugin.diffusion import GaussianMixtureDenoiser
from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics import compare_pulls, mismatch_degree, node_health, stable_target


def gaussian(mean: float, std: float) -> GaussianMixtureDenoiser:
    return GaussianMixtureDenoiser(torch.ones(1), torch.tensor([[mean, 0.0]]), std)


def samples(mean: float, std: float, num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, 2, generator=generator) * std + torch.tensor([mean, 0.0])


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_the_target_is_the_denoiser_of_the_points_whatever_the_chunks(chunk_size: int) -> None:
    points, x_t = samples(0.5, 1.0, 50), samples(0.0, 2.0, 20)
    sigma = torch.linspace(0.01, 3.0, 20)
    exact = GaussianMixtureDenoiser(torch.ones(50), points, 0.0)(x_t, sigma)
    found = stable_target(x_t, sigma, points, chunk_size)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_the_mismatch_of_two_gaussians_is_the_closed_form(sigma: float) -> None:
    """Scores are linear: s = (mean - x) / (std^2 + sigma^2)."""
    mean, std, other = 2.0, 1.0, 1.5
    own, total = std**2 + sigma**2, other**2 + sigma**2
    # s_other - s_own = -mean / total at x - mean along the first axis, plus a linear part in x
    linear = (1 / own - 1 / total) ** 2 * own
    due = linear + (mean / total) ** 2 / 2
    network = gaussian(0.0, other)
    found = mismatch_degree(
        network, samples(mean, std, 8000), [sigma], torch.Generator().manual_seed(0)
    )
    assert found.degree[0] == pytest.approx(due, rel=0.06)
    least = std**2 * sigma**2 / own  # the posterior's variance
    assert found.excess[0] == pytest.approx(due * sigma**4 / least, rel=0.06)


def test_a_perfect_network_has_the_estimates_floor_which_falls_with_the_samples() -> None:
    def floor(num: int) -> float:
        points, network = samples(0.0, 1.0, num), gaussian(0.0, 1.0)
        return mismatch_degree(network, points, [1.0], torch.Generator().manual_seed(0)).excess[0]

    assert floor(4000) < 0.01
    assert floor(4000) < floor(400) / 3


def test_labelled_samples_are_compared_within_their_label() -> None:
    points = torch.cat([samples(-3.0, 0.5, 400), samples(3.0, 0.5, 400)]).reshape(2, 400, 2)
    points = points.transpose(0, 1).reshape(-1, 2)  # labels alternate
    labels = torch.arange(800) % 2
    network = GaussianMixtureDenoiser(torch.ones(2), torch.tensor([[-3.0, 0.0], [3.0, 0.0]]), 0.5)
    found = mismatch_degree(network, points, [3.0], torch.Generator().manual_seed(0), labels)
    assert found.excess[0] < 0.05

    def blind(x, sigma, labels):
        return network(x, sigma)

    unlabelled = mismatch_degree(blind, points, [3.0], torch.Generator().manual_seed(0), labels)
    assert unlabelled.excess[0] > 0.5


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(DisBackError, match=r"at least 4 samples \(seen: 3\)"):
        mismatch_degree(gaussian(0, 1), samples(0, 1, 3), [1.0], torch.Generator())


def test_a_damped_teacher_is_healthy_and_noise_is_not() -> None:
    fake, teacher = gaussian(4.0, 1.0), gaussian(0.0, 1.0)

    def damped(x, sigma, labels=None):
        return fake(x, sigma) + 0.25 * (teacher(x, sigma) - fake(x, sigma))

    def noise(x, sigma, labels=None):
        return fake(x, sigma) + torch.randn(x.shape, generator=torch.Generator().manual_seed(5))

    points, levels = samples(4.0, 1.0, 4000), [0.5, 2.0]
    good = node_health(fake, damped, teacher, points, levels, torch.Generator().manual_seed(0))
    assert good.cosine == pytest.approx((1.0, 1.0), abs=1e-5)
    assert good.size == pytest.approx((0.25, 0.25), rel=1e-4)
    # D_fake - D_teacher = mean / (1 + 1 / sigma^2) along one of two axes
    due = [4 * level**2 / (1 + level**2) / 2**0.5 for level in levels]
    assert good.teacher_gap == pytest.approx(due, rel=1e-4)
    bad = node_health(fake, noise, teacher, points, levels, torch.Generator().manual_seed(0))
    assert max(map(abs, bad.cosine)) < 0.05


def test_the_teacher_as_its_own_node_is_asked_once_and_pulls_as_itself() -> None:
    fake, teacher, num_passes = gaussian(4.0, 1.0), gaussian(0.0, 1.0), []

    def counted(x, sigma, labels=None):
        num_passes.append(1)
        return teacher(x, sigma)

    points, levels = samples(4.0, 1.0, 50), [0.5, 2.0]
    found = node_health(fake, counted, counted, points, levels, torch.Generator().manual_seed(0))
    assert len(num_passes) == len(levels)
    assert found.cosine == pytest.approx((1.0, 1.0), abs=1e-9)
    assert found.size == (1.0, 1.0)
    assert found.gap == found.teacher_gap
    # as noise predictions: 4 sigma / (1 + sigma^2) along one of two axes
    due = [4 * level / (1 + level**2) / 2**0.5 for level in levels]
    assert found.score_gap == pytest.approx(sum(due) / 2, rel=1e-4)


def test_without_a_difference_there_is_no_direction() -> None:
    assert compare_pulls(torch.zeros(3), torch.ones(3)) == (0.0, 0.0, 0.0, 1.0)
