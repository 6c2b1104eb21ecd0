"""Frechet, sliced Wasserstein and energy distances against their closed forms."""

import math

import pytest
import torch
from scipy import stats

from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics import (
    GaussianFit,
    SlicedWasserstein,
    energy_distance,
    fit_gaussian,
    frechet_between,
    frechet_distance,
    sliced_wasserstein,
)
from disback_plugin.lab.metrics.distances import projections

DISTANCES = [frechet_distance, sliced_wasserstein, energy_distance]


def normal(num: int, *shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, *shape, generator=generator, dtype=torch.float64)


def test_frechet_of_commuting_gaussians_is_the_closed_form() -> None:
    first = GaussianFit(
        torch.tensor([1.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 9.0])).double()
    )
    second = GaussianFit(torch.zeros(2).double(), torch.diag(torch.tensor([1.0, 16.0])).double())
    # |m|^2 + (2 - 1)^2 + (3 - 4)^2
    assert frechet_between(first, second) == pytest.approx(5 + 1 + 1, abs=1e-12)


def test_frechet_of_gaussians_that_do_not_commute() -> None:
    """In two dimensions tr sqrt(A) = sqrt(tr A + 2 sqrt(det A)) for A = S1 S2."""
    one = torch.tensor([[2.0, 0.8], [0.8, 1.0]]).double()
    two = torch.tensor([[1.0, -0.5], [-0.5, 3.0]]).double()
    product = one @ two
    root_trace = torch.sqrt(product.trace() + 2 * product.det().sqrt())
    expected = float(one.trace() + two.trace() - 2 * root_trace)
    mean = torch.zeros(2).double()
    got = frechet_between(GaussianFit(mean, one), GaussianFit(mean, two))
    assert got == pytest.approx(expected, abs=1e-12)


def test_frechet_survives_constant_pixels() -> None:
    samples = normal(200, 1, 4, 4)
    samples[:, :, 0] = -1.0
    assert frechet_distance(samples, samples + 0.5) == pytest.approx(16 * 0.25, abs=1e-6)


def test_fit_is_the_sample_mean_and_unbiased_covariance() -> None:
    samples = normal(50, 3)
    mean, covariance = fit_gaussian(samples)
    assert torch.allclose(mean, samples.mean(0), atol=1e-14)
    assert torch.allclose(covariance, torch.cov(samples.T), atol=1e-14)


@pytest.mark.parametrize("size", [301, 120, 1000])
def test_sliced_wasserstein_in_one_dimension_is_the_wasserstein_distance(size: int) -> None:
    """Equal and unequal sizes, against an independent quantile integral on a fine grid."""
    a, b = normal(300, 1), 2 * normal(size, 1, seed=1) + 1
    levels = (torch.arange(600_000).double() + 0.5) / 600_000
    quantiles = [x.flatten().sort().values[(levels * len(x)).long()] for x in (a, b)]
    expected = float((quantiles[0] - quantiles[1]).square().mean().sqrt())
    assert sliced_wasserstein(a, b) == pytest.approx(expected, rel=1e-4)


def test_sliced_wasserstein_of_a_shift_is_its_mean_projection() -> None:
    samples, shift = normal(400, 2), torch.tensor([3.0, -1.0]).double()
    expected = (shift @ projections(2, 64, seed=5)).square().mean().sqrt()
    got = sliced_wasserstein(samples, samples + shift, num_projections=64, seed=5)
    assert got == pytest.approx(float(expected), rel=1e-12)
    # over all directions of the plane the mean square projection is half the square
    many = sliced_wasserstein(samples, samples + shift, num_projections=2_000)
    assert many == pytest.approx(math.sqrt(10 / 2), rel=0.02)


def test_energy_distance_of_shifted_gaussians_is_the_closed_form() -> None:
    shift, size = 1.5, 4000
    quantiles = torch.as_tensor(stats.norm.ppf((torch.arange(size).numpy() + 0.5) / size))
    between = 2 / math.sqrt(math.pi) * math.exp(-(shift**2) / 4) + shift * math.erf(shift / 2)
    expected = math.sqrt(2 * between - 4 / math.sqrt(math.pi))
    got = energy_distance(quantiles[:, None], quantiles[:, None] + shift)
    assert got == pytest.approx(expected, rel=2e-3)


def test_energy_distance_equals_scipys_in_one_dimension() -> None:
    a, b = normal(211, 1), normal(97, 1, seed=1) * 0.5 + 2
    expected = stats.energy_distance(a.flatten(), b.flatten())
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_energy_distance_does_not_depend_on_the_chunks() -> None:
    a, b = normal(100, 3), normal(70, 3, seed=1)
    assert energy_distance(a, b, chunk_size=7) == pytest.approx(energy_distance(a, b), rel=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_equal_sets_in_another_order_are_at_distance_zero(distance) -> None:
    samples = normal(150, 1, 2, 2)
    assert distance(samples, samples.flip(0)) == pytest.approx(0.0, abs=1e-6)
    assert distance(samples, samples + 1) > 0.4


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_are_symmetric(distance) -> None:
    a, b = normal(60, 3), 2 * normal(80, 3, seed=1) - 1
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-9)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_samples_that_are_not_finite_are_infinitely_far(distance, bad: float) -> None:
    samples = normal(10, 2)
    broken = samples.clone()
    broken[3, 1] = bad
    assert distance(broken, samples) == math.inf
    assert distance(samples, broken) == math.inf


@pytest.mark.parametrize("distance", DISTANCES)
def test_other_data_shapes_are_refused_by_name(distance) -> None:
    with pytest.raises(DisBackError, match=r"\(2,\) and \(3,\)"):
        distance(normal(5, 2), normal(5, 3))
    with pytest.raises(DisBackError, match=r"shape \(0, 2\)"):
        distance(normal(0, 2), normal(5, 2))


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_neither_read_nor_move_the_global_rng(distance) -> None:
    a, b = normal(30, 3), normal(30, 3, seed=1)
    torch.manual_seed(1)
    first, after = distance(a, b), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))
    assert distance(a, b) == first


def test_the_quick_distance_is_the_exact_one_for_sets_of_one_size() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(500, 3, generator=generator)
    quick = SlicedWasserstein(data)
    for shift in (0.0, 0.1, 5.0):
        samples = 1.5 * torch.randn(500, 3, generator=generator) + shift
        assert quick(samples) == pytest.approx(sliced_wasserstein(samples, data), rel=1e-5)
    assert quick(data) == pytest.approx(0.0, abs=1e-6)


def test_the_quick_distance_of_samples_that_are_not_finite_is_infinite() -> None:
    data = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    assert SlicedWasserstein(data)(data * float("nan")) == math.inf
