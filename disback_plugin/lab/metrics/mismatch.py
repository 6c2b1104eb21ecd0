"""Mismatch degree (Eq. 9): how far a network's score is from that of a set of samples."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from disback_plugin.diffusion import diffuse, score
from disback_plugin.errors import DisBackError

Denoise = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class Mismatch(NamedTuple):
    """Per noise level: `degree`, Eq. 9 per data dimension, and `excess`, free of units.

    excess: |D - D*|^2 / |x0 - D*|^2, with D* the samples' own denoiser: the share by which the
    network's denoising loss on these samples is above the least possible. 0 for a perfect network.
    """

    sigmas: tuple[float, ...]
    degree: tuple[float, ...]
    excess: tuple[float, ...]

    @property
    def mean_excess(self) -> float:
        """Over all levels."""
        return sum(self.excess) / len(self.excess)


@torch.no_grad()
def mismatch_degree(
    network: Denoise,
    samples: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator,
    labels: Tensor | None = None,
    chunk_size: int = 1024,
) -> Mismatch:
    """Eq. 9, d = E |s_network(x_t) - grad log q_t(x_t)|^2, at each of `sigmas`.

    samples (n, *data) of the assessed distribution: the first half is diffused, the second half is
    the reference of the Stable Target Field, so that no sample is its own target. labels (n,): the
    field is taken per label. Estimated: the floor, what a perfect network gets, falls as 1 / n and
    is large where sigma is below the samples' spacing. Cost: n / 2 forward passes a level, and
    n^2 d / 4 multiplications. Raises DisBackError for fewer than 4 samples.
    """
    if len(samples) < 4:
        raise DisBackError(f"the mismatch needs at least 4 samples (seen: {len(samples)})")
    half = len(samples) // 2
    x0, reference = samples[:half], samples[half:]
    own = None if labels is None else (labels[:half], labels[half:])
    degree, excess = [], []
    for level in sigmas:
        sigma = x0.new_full((half,), level)
        eps = torch.randn(x0.shape, generator=generator).to(x0)
        x_t = diffuse(x0, sigma, eps)
        target = _target(x_t, sigma, reference, own, chunk_size)
        guess = network(x_t, sigma, None if own is None else own[0])
        error = score(guess, x_t, sigma) - score(target, x_t, sigma)
        degree.append(float(error.square().mean()))
        least = float((x0 - target).square().mean())
        excess.append(float((guess - target).square().mean()) / max(least, 1e-12))
    return Mismatch(tuple(sigmas), tuple(degree), tuple(excess))


def _target(
    x_t: Tensor,
    sigma: Tensor,
    reference: Tensor,
    labels: tuple[Tensor, Tensor] | None,
    chunk_size: int,
) -> Tensor:
    if labels is None:
        return stable_target(x_t, sigma, reference, chunk_size)
    target = torch.empty_like(x_t)
    for label in labels[0].unique():
        mine, theirs = labels[0] == label, labels[1] == label
        if not bool(theirs.any()):
            raise DisBackError(f"label {int(label)} has no sample in the second half: give more")
        target[mine] = stable_target(x_t[mine], sigma[mine], reference[theirs], chunk_size)
    return target


@torch.no_grad()
def stable_target(x_t: Tensor, sigma: Tensor, reference: Tensor, chunk_size: int = 1024) -> Tensor:
    """E[x0 | x_t] over `reference`: sum_k softmax_k(-|x_t - x0_k|^2 / 2 sigma^2) x0_k (Eq. 9).

    x_t (B, *data), sigma (B,), reference (n, *data) -> (B, *data); the score that Eq. 9 needs is
    (stable_target - x_t) / sigma^2. Exact for the empirical distribution; as an estimate for the
    distribution behind it, it needs samples within a few sigma of x_t. Cost: B n d multiplications
    and 2 chunk_size^2 numbers of memory; no network pass.
    """
    queries, points = x_t.flatten(1), reference.flatten(1)
    parts = [
        _posterior_mean(part, level, points, chunk_size)
        for part, level in zip(queries.split(chunk_size), sigma.split(chunk_size), strict=True)
    ]
    return torch.cat(parts).reshape(x_t.shape)


def _posterior_mean(queries: Tensor, sigma: Tensor, points: Tensor, chunk_size: int) -> Tensor:
    """A softmax over all points, with a running maximum so that no chunk has to be kept."""
    highest = queries.new_full((len(queries), 1), -torch.inf)
    weight, total = torch.zeros_like(highest), torch.zeros_like(queries)
    for part in points.split(chunk_size):
        distance = torch.cdist(queries, part, compute_mode="donot_use_mm_for_euclid_dist")
        logits = -distance.square() / (2 * sigma[:, None] ** 2)
        peak = torch.maximum(highest, logits.max(dim=1, keepdim=True).values)
        shares, kept = (logits - peak).exp(), (highest - peak).exp()
        weight = weight * kept + shares.sum(dim=1, keepdim=True)
        total = total * kept + shares @ part
        highest = peak
    return total / weight
