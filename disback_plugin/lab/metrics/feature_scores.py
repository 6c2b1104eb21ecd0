"""What FID is reported with: kernel distance (KID), inception score, precision and recall."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics.distances import sample_pair

NUM_SUBSETS, SUBSET_SIZE = 100, 1000  # of KID, as its authors and clean-fid have it
NUM_NEIGHBOURS = 3


def kernel_distance(
    generated: Tensor,
    real: Tensor,
    num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
) -> float:
    """KID: mean over random subsets of the unbiased squared MMD, kernel (x.y / d + 1)^3.

    generated (n, d), real (m, d). The subsets are those of `numpy.random.RandomState(seed)`, first
    of the real rows, then of the generated ones. It may be a little below 0. Binkowski et al. 2018.
    """
    if generated.shape[1] != real.shape[1]:
        raise DisBackError(f"features of {generated.shape[1]} and {real.shape[1]} numbers: one net")
    size = min(len(generated), len(real), subset_size)
    if size < 2:
        raise DisBackError(f"KID needs at least 2 images of each kind (seen: {size})")
    draws, total = np.random.RandomState(seed), 0.0
    for _ in range(num_subsets):
        x = real[torch.from_numpy(draws.choice(len(real), size, replace=False))].double()
        y = generated[torch.from_numpy(draws.choice(len(generated), size, replace=False))].double()
        within = _kernel(x, x) + _kernel(y, y)
        pairs = (within.sum() - within.trace()) / (size * (size - 1))
        total += float(pairs - 2 * _kernel(x, y).mean())
    return total / num_subsets


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def inception_score(parts: Iterable[Tensor]) -> float:
    """exp E KL(p(y|x) | p(y)), the mean over splits; `parts`: one (n, classes) of each split.

    Probabilities in float64 or float32. Salimans et al. 2016.
    """
    scores = []
    for part in parts:
        p = part.double()
        # entropy of the mean less the mean entropy: the same, and 0 log 0 is 0
        gain = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
        scores.append(float(gain.exp()))
    if not scores:
        raise DisBackError("the inception score needs images")
    return float(np.mean(scores))


class Overlap(NamedTuple):
    """precision: the share of generated samples among real ones; recall: the other way round."""

    precision: float
    recall: float


def precision_recall(
    generated: Tensor, real: Tensor, num_neighbours: int = NUM_NEIGHBOURS, chunk_size: int = 500
) -> Overlap:
    """Shares within the other set's manifold: balls that reach a row's k-th neighbour.

    generated (n, d), real (m, d). Memory: chunk_size * max(n, m) numbers beyond them. A point on a
    ball's border is in it. Kynkaanniemi et al. 2019.
    """
    fewest = min(len(generated), len(real))
    if fewest <= num_neighbours:
        raise DisBackError(f"precision needs more than {num_neighbours} images (seen: {fewest})")
    if generated.dtype != torch.float32 or real.dtype != torch.float32:
        generated, real = sample_pair(generated, real)
    real_radii = _radii(real, num_neighbours, chunk_size)
    precision = _share_within(generated, real, real_radii, chunk_size)
    recall = _share_within(
        real, generated, _radii(generated, num_neighbours, chunk_size), chunk_size
    )
    return Overlap(precision, recall)


def _radii(points: Tensor, num_neighbours: int, chunk_size: int) -> Tensor:
    """Squared distances (n,) to the k-th nearest other row."""
    radii = []
    for start in range(0, len(points), chunk_size):
        part = points[start : start + chunk_size]
        distances = _squared_distances(part, points)
        rows = torch.arange(len(part))
        distances[rows, start + rows] = -1.0  # itself, whatever rounding says
        radii.append(distances.kthvalue(num_neighbours + 1, dim=1).values)
    return torch.cat(radii)


def _share_within(points: Tensor, centres: Tensor, radii: Tensor, chunk_size: int) -> float:
    parts = points.split(chunk_size)
    within = [(_squared_distances(part, centres) <= radii).any(dim=1) for part in parts]
    return float(torch.cat(within).double().mean())


def _squared_distances(first: Tensor, second: Tensor) -> Tensor:
    lengths = first.square().sum(1)[:, None] + second.square().sum(1)
    return lengths.addmm_(first, second.T, alpha=-2).clamp_min_(0)
