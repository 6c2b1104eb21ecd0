"""Frechet distance between Gaussians fitted to two sample sets (the FID's formula)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from disback_plugin.lab.metrics.sample_matrix import all_finite, sample_matrix, sample_pair


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
