"""x0, eps, v, flow and score of a noisy sample are one quantity in five forms (x = x0 + sigma eps).

All functions are pure; x and predictions are (B, *data), sigma is (B,). Each pair is an inverse.
"""

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError


def diffuse(x0: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """The forward process x = x0 + sigma eps; dx/dx0 = 1, so gradients at x are gradients at x0."""
    return x0 + per_sample(sigma, x0) * eps


def score(x0_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """s(x, sigma) = (x0_hat - x) / sigma^2, Tweedie's formula for a denoiser's output."""
    return (x0_hat - x) / per_sample(sigma, x) ** 2


def x0_from_score(score_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """x0 = x + sigma^2 s."""
    return x + per_sample(sigma, x) ** 2 * score_hat


def eps_from_x0(x0_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """eps = (x - x0) / sigma, which is -sigma s."""
    return (x - x0_hat) / per_sample(sigma, x)


def x0_from_eps(eps_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """x0 = x - sigma eps."""
    return x - per_sample(sigma, x) * eps_hat


def v_from_x0(x0_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """v = a eps - b x0 with a = 1/sqrt(1 + sigma^2), b = sigma a (Salimans & Ho 2022)."""
    spread = per_sample(sigma, x)
    return (eps_from_x0(x0_hat, x, sigma) - spread * x0_hat) / (1 + spread**2).sqrt()


def x0_from_v(v_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """x0 = a x_vp - b v, where x_vp = a x is the sample in variance-preserving scale."""
    spread = per_sample(sigma, x)
    return x / (1 + spread**2) - spread * v_hat / (1 + spread**2).sqrt()


def flow_from_x0(x0_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The velocity eps - x0 of a rectified flow (Liu et al. 2023), which diffusers calls v too."""
    return eps_from_x0(x0_hat, x, sigma) - x0_hat


def x0_from_flow(flow_hat: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """x0 = x_t - t (eps - x0) with t = sigma / (1 + sigma), x_t = x / (1 + sigma)."""
    spread = per_sample(sigma, x)
    return (x - spread * flow_hat) / (1 + spread)


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
