"""Energy distance between two sample sets (Szekely and Rizzo)."""

import math

import torch
from torch import Tensor

from disback_plugin.lab.metrics.sample_matrix import all_finite, sample_pair


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
