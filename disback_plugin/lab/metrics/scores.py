"""What a network's score is worth on samples: its mismatch (Eq. 9), a node's pull (Eq. 8)."""

from collections.abc import Callable, Sequence
from statistics import fmean
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
        target = _target(x_t, sigma, reference, own)
        guess = network(x_t, sigma, None if own is None else own[0])
        error = score(guess, x_t, sigma) - score(target, x_t, sigma)
        degree.append(float(error.square().mean()))
        least = float((x0 - target).square().mean())
        excess.append(float((guess - target).square().mean()) / max(least, 1e-12))
    return Mismatch(tuple(sigmas), tuple(degree), tuple(excess))


def _target(
    x_t: Tensor, sigma: Tensor, reference: Tensor, labels: tuple[Tensor, Tensor] | None
) -> Tensor:
    if labels is None:
        return stable_target(x_t, sigma, reference)
    target = torch.empty_like(x_t)
    for label in labels[0].unique():
        mine, theirs = labels[0] == label, labels[1] == label
        if not bool(theirs.any()):
            raise DisBackError(f"label {int(label)} has no sample in the second half: give more")
        target[mine] = stable_target(x_t[mine], sigma[mine], reference[theirs])
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


class Health(NamedTuple):
    """Per noise level, over a batch: the node's pull against the teacher's, and the score gaps.

    cosine: of D_fake - D_node with D_fake - D_teacher; about 1 for a damped teacher, about 0 for
    noise. size: |D_fake - D_node| / |D_fake - D_teacher|. gap, teacher_gap: root mean squares of
    the two differences, in data units.
    """

    sigmas: tuple[float, ...]
    cosine: tuple[float, ...]
    size: tuple[float, ...]
    gap: tuple[float, ...]
    teacher_gap: tuple[float, ...]

    @property
    def score_gap(self) -> float:
        """`gap` / sigma, mean over the levels: by how much the two noise predictions differ."""
        return fmean(gap / sigma for gap, sigma in zip(self.gap, self.sigmas, strict=True))


@torch.no_grad()
def node_health(
    fake_score: Denoise,
    node: Denoise,
    teacher: Denoise,
    samples: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator,
    labels: Tensor | None = None,
) -> Health:
    """Probe a node on the student's current samples (n, *data), the same noise for all networks.

    Cost: three forward passes a sample and level; two where `node` is `teacher`, the same object.
    """
    columns = []
    for level in sigmas:
        sigma = samples.new_full((len(samples),), level)
        x_t = diffuse(samples, sigma, torch.randn(samples.shape, generator=generator).to(samples))
        fake = fake_score(x_t, sigma, labels)
        pull = fake - node(x_t, sigma, labels)
        full = pull if teacher is node else fake - teacher(x_t, sigma, labels)
        columns.append(compare_pulls(pull, full))
    cosine, size, gap, teacher_gap = zip(*columns, strict=True)
    return Health(tuple(sigmas), cosine, size, gap, teacher_gap)


def compare_pulls(pull: Tensor, full: Tensor) -> tuple[float, float, float, float]:
    """cosine, relative size, and both root mean squares of two (n, *data) differences.

    Where a difference is zero there is no direction: the cosine is then 0.
    """
    a, b = pull.double().flatten(), full.double().flatten()
    norm_a, norm_b = float(a.norm()), float(b.norm())
    cosine = float(a @ b) / (norm_a * norm_b) if norm_a * norm_b > 0 else 0.0
    root = a.numel() ** 0.5
    size = norm_a / norm_b if norm_b > 0 else float("inf")
    return cosine, size, norm_a / root, norm_b / root
