"""Per-sample quantities such as sigma: checked once, here, then broadcast over the data."""

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Reshape `value` (B,) to (B, 1, ...) so that it broadcasts against `like` (B, *data).

    Raises DisBackError for any other shape: a 0-d tensor or (B, 1) would broadcast silently.
    """
    if not isinstance(value, Tensor) or value.shape != like.shape[:1]:
        seen = tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise DisBackError(
            f"sigma must be one tensor entry per sample, shape ({like.shape[0]},) for a batch of "
            f"shape {tuple(like.shape)}, but it is {seen}; use x.new_full((x.shape[0],), sigma)"
        )
    return value.reshape(-1, *[1] * (like.ndim - 1))


def working_dtype(x: Tensor) -> torch.dtype:
    """At least float32: sigma spans 1e-3..1e2, more than half-precision arithmetic resolves."""
    return torch.promote_types(x.dtype, torch.float32)
