"""Stable Target Field (Xu et al. 2023): the denoiser of a set of samples, from them alone."""

import torch
from torch import Tensor


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
