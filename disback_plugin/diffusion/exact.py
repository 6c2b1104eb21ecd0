"""The exact denoiser of a Gaussian mixture: ground truth for tests and for the 2-D experiment."""

import torch
from torch import Tensor

from disback_plugin.diffusion.denoiser import Denoiser
from disback_plugin.errors import ConfigError


class GaussianMixtureDenoiser(Denoiser):
    """E[x0 | x] for x0 ~ sum_k w_k N(m_k, std_k^2 I), in closed form.

    weights (K,) positive (normalised here), means (K, *data), std a float or (K,), zero allowed
    (a point mass). With cond (B,) int64, x0 is known to come from component cond.
    """

    sigma_min, sigma_max = 0.002, 80.0
    weights: Tensor
    means: Tensor
    std: Tensor

    def __init__(self, weights: Tensor, means: Tensor, std: Tensor | float) -> None:
        super().__init__()
        num = means.shape[0]
        stds = torch.as_tensor(std, dtype=means.dtype, device=means.device).expand(num).clone()
        if weights.shape != (num,) or not bool((weights > 0).all()) or bool((stds < 0).any()):
            raise ConfigError(
                f"a mixture of {num} means needs {num} positive weights and stds >= 0, not "
                f"weights of shape {tuple(weights.shape)}: {weights.tolist()} and {stds.tolist()}"
            )
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means.clone())
        self.register_buffer("std", stds)

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        """Responsibilities times the posterior means of the components."""
        # a matrix product would run in bf16 under autocast, and this is meant to be exact
        with torch.autocast(x.device.type, enabled=False):
            flat, means = x.flatten(1), self.means.to(x.dtype).flatten(1)
            variance = self.std.to(x.dtype) ** 2
            total = variance + sigma[:, None] ** 2
            gain = variance / total
            share = self._responsibilities(flat, means, total, cond)
            pulled = (share * (1 - gain)) @ means
            return (pulled + (share * gain).sum(1, keepdim=True) * flat).reshape(x.shape)

    def _responsibilities(
        self, flat: Tensor, means: Tensor, total: Tensor, cond: Tensor | None
    ) -> Tensor:
        """(B, K) posterior of the component; `total` (B, K) is its variance at this sigma."""
        if cond is not None:
            return torch.nn.functional.one_hot(cond, means.shape[0]).to(flat.dtype)
        distance = (flat[:, None] - means).square().sum(-1)
        log_density = -distance / (2 * total) - flat.shape[1] / 2 * total.log()
        return (self.weights.to(flat.dtype).log() + log_density).softmax(1)
