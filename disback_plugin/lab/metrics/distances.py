"""Distances between two sample sets, and how much of the data's variety samples have.

Distances take samples (n, *data) and (m, *data), flatten them and reckon in float64 on the CPU.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from disback_plugin.errors import DisBackError

RADIUS_IN_STD, MIN_FRACTION = 3.0, 0.2  # of a mode that counts as covered
MAX_SIDE = 16  # of coarse pixels


def sample_matrix(samples: Tensor, at_least: int = 1) -> Tensor:
    """(n, *data) samples as an (n, d) float64 CPU matrix; refuses fewer than `at_least` samples."""
    if samples.ndim < 2 or samples.shape[0] < at_least:
        raise DisBackError(
            f"samples have shape {tuple(samples.shape)}; give at least {at_least} "
            "as a tensor (n, *data)"
        )
    return samples.detach().to("cpu", torch.float64).flatten(start_dim=1)


def sample_pair(first: Tensor, second: Tensor, at_least: int = 1) -> tuple[Tensor, Tensor]:
    """Two sample sets as matrices of the same width; sizes may differ."""
    a, b = sample_matrix(first, at_least), sample_matrix(second, at_least)
    if a.shape[1] != b.shape[1]:
        raise DisBackError(
            f"the sample sets differ in data shape: {tuple(first.shape[1:])} and "
            f"{tuple(second.shape[1:])}; compare samples of the same data"
        )
    return a, b


def coarse_pixels(images: Tensor) -> Tensor:
    """Images (n, C, H, W) averaged to at most 16 x 16 and flattened, float32: colours and shapes.

    768 numbers an RGB image: a covariance that a few thousand images determine.
    """
    height, width = images.shape[-2:]
    side = min(height, MAX_SIDE), min(width, MAX_SIDE)
    return adaptive_avg_pool2d(images.float(), side).flatten(1)


def all_finite(*samples: Tensor) -> bool:
    """Whether every value is a number: a diverged student's samples are not."""
    return all(bool(torch.isfinite(part).all()) for part in samples)


class GaussianFit(NamedTuple):
    """Mean (d,) and unbiased covariance (d, d) of a sample set, float64."""

    mean: Tensor
    covariance: Tensor


def fit_gaussian(samples: Tensor) -> GaussianFit:
    """Fit a Gaussian to (n, *data) samples, n >= 2; data dimensions are flattened."""
    matrix = sample_matrix(samples, at_least=2)
    mean = matrix.mean(dim=0)
    centred = matrix - mean
    return GaussianFit(mean, centred.T @ centred / (matrix.shape[0] - 1))


def frechet_between(first: GaussianFit, second: GaussianFit) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2); inf where a fit is not finite.

    The product is symmetric positive semi-definite, so that eigenvalues stay real even where a
    covariance is singular (constant border pixels) and no matrix root of a general matrix is taken.
    """
    if not all_finite(*first, *second):
        return math.inf
    root = _symmetric_root(first.covariance)
    product = root @ second.covariance @ root
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2).clamp_min(0.0)
    shift = (first.mean - second.mean).square().sum()
    spread = first.covariance.trace() + second.covariance.trace() - 2 * eigenvalues.sqrt().sum()
    return max(0.0, float(shift + spread))


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance of two sample sets (n, *data) and (m, *data); inf if not finite."""
    a, b = sample_pair(first, second, at_least=2)
    return frechet_between(fit_gaussian(a), fit_gaussian(b))


def _symmetric_root(matrix: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    return (vectors * eigenvalues.clamp_min(0.0).sqrt()) @ vectors.T


def energy_distance(first: Tensor, second: Tensor, chunk_size: int = 1024) -> float:
    """sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), in the data's units; zero for equal sets.

    Samples are (n, *data) and (m, *data); pairs of a sample with itself are counted, so that the
    root is always defined. Memory: chunk_size * max(n, m) float64.
    inf where a sample is not finite.
    """
    a, b = sample_pair(first, second)
    if not all_finite(a, b):
        return math.inf
    between = _mean_distance(a, b, chunk_size)
    within = _mean_distance(a, a, chunk_size) + _mean_distance(b, b, chunk_size)
    return math.sqrt(max(0.0, 2 * between - within))


def _mean_distance(first: Tensor, second: Tensor, chunk_size: int) -> float:
    # the matrix-product form of cdist loses half the digits where points nearly coincide
    exact = "donot_use_mm_for_euclid_dist"
    sums = [torch.cdist(part, second, compute_mode=exact).sum() for part in first.split(chunk_size)]
    return float(torch.stack(sums).sum()) / (first.shape[0] * second.shape[0])


def sliced_wasserstein(
    first: Tensor, second: Tensor, num_projections: int = 128, seed: int = 0
) -> float:
    """Root of the mean squared 1-D W2 over unit directions, exact per direction (sizes may differ).

    Samples are (n, *data) and (m, *data). The directions depend on `seed` and the data's dimension
    alone, so that evaluations of one run are comparable. inf where a sample is not finite.
    """
    a, b = sample_pair(first, second)
    if not all_finite(a, b):
        return math.inf
    directions = projections(a.shape[1], num_projections, seed)
    return math.sqrt(_squared_wasserstein_1d(a @ directions, b @ directions).mean().item())


class SlicedWasserstein:
    """`sliced_wasserstein` to one data set, sorted once and in float32, for sets of its size.

    The same directions; about ten times quicker, equal to six digits.
    """

    def __init__(self, data: Tensor) -> None:
        points = sample_matrix(data)
        self._directions = projections(points.shape[1]).T.float()
        self._quantiles = (self._directions @ points.float().T).sort(dim=1).values

    def __call__(self, samples: Tensor) -> float:
        """samples (n, *data), n as many as the data's; inf where one is not finite."""
        if not all_finite(samples):
            return math.inf
        quantiles = (self._directions @ samples.flatten(1).float().T).sort(dim=1).values
        return math.sqrt((quantiles - self._quantiles).square().mean().item())


def projections(dimension: int, num_projections: int = 128, seed: int = 0) -> Tensor:
    """(d, num_projections) unit columns, uniform on the sphere, from a generator of their own."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(dimension, num_projections, generator=generator, dtype=torch.float64)
    return directions / directions.norm(dim=0, keepdim=True)


def _squared_wasserstein_1d(first: Tensor, second: Tensor) -> Tensor:
    """Integral of the squared difference of the two quantile functions, per column."""
    a, b = first.sort(dim=0).values, second.sort(dim=0).values
    n, m = a.shape[0], b.shape[0]
    if n == m:
        return (a - b).square().mean(dim=0)
    # both quantile functions are constant between neighbouring levels i/n and j/m
    levels = torch.cat([torch.arange(n + 1).double() / n, torch.arange(m + 1).double() / m])
    levels = levels.sort().values
    middles, widths = (levels[1:] + levels[:-1]) / 2, levels.diff()
    at_a = (middles * n).long().clamp_max(n - 1)
    at_b = (middles * m).long().clamp_max(m - 1)
    return (widths[:, None] * (a[at_a] - b[at_b]).square()).sum(dim=0)


def mode_coverage(
    samples: Tensor, means: Tensor, std: Tensor | float, weights: Tensor | None = None
) -> float:
    """Share of mixture components that get at least a fifth of the samples due to them.

    A sample counts for its nearest component, and only within 3 std of its mean. samples (n, d),
    means (k, d), std a number or (k,), weights (k,) (even where absent) that sum to 1. Returns a
    number in [0, 1]; 0 where a sample is not finite.
    """
    points, centres = sample_pair(samples, means)
    if not all_finite(points):
        return 0.0
    num_components = centres.shape[0]
    radius = RADIUS_IN_STD * torch.as_tensor(std, dtype=torch.float64).cpu().expand(num_components)
    due = torch.full((num_components,), 1 / num_components, dtype=torch.float64)
    if weights is not None:
        due = weights.detach().to("cpu", torch.float64)
    distance, nearest = torch.cdist(points, centres).min(dim=1)
    hits = nearest[distance <= radius[nearest]]
    shares = torch.bincount(hits, minlength=num_components).double() / points.shape[0]
    return float((shares >= MIN_FRACTION * due).double().mean())


def class_coverage(classes: Tensor, num_classes: int) -> float:
    """exp(entropy of the class shares) / num_classes: the effective share of classes.

    classes (n,) int64 from a classifier. 1 when all classes come equally often, 1 / num_classes
    when there is only one. It says nothing about quality: read it beside a distance.
    """
    if classes.ndim != 1 or classes.numel() == 0:
        raise DisBackError(f"classes have shape {tuple(classes.shape)}; give a tensor (n,), n >= 1")
    shares = torch.bincount(classes.cpu(), minlength=num_classes).double() / classes.numel()
    if shares.numel() > num_classes:
        raise DisBackError(f"class {int(classes.max())} seen where num_classes is {num_classes}")
    return float(torch.special.entr(shares).sum().exp()) / num_classes
