"""The one form in which the metrics take samples: a float64 matrix on the CPU."""

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError


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


def all_finite(*samples: Tensor) -> bool:
    """Whether every value is a number: a diverged student's samples are not."""
    return all(bool(torch.isfinite(part).all()) for part in samples)
