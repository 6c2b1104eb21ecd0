"""A plain MLP as a one-step student."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from disback_plugin.errors import ConfigError, DisBackError


class MLPGenerator(nn.Module):
    """G(z) -> x0, the student of the paper's 2-D experiment (Appendix E.1); unconditional."""

    def __init__(
        self, latent_dim: int, data_shape: Sequence[int], hidden: int = 128, num_layers: int = 3
    ) -> None:
        """num_layers counts the linear maps, the last one included; ConfigError below 1."""
        super().__init__()
        self.latent_dim, self.data_shape = latent_dim, tuple(data_shape)
        size = math.prod(self.data_shape)
        if latent_dim < 1 or size < 1 or num_layers < 1:
            raise ConfigError(
                "the generator needs latent_dim, data and num_layers of at least 1, not "
                f"{latent_dim}, {self.data_shape} and {num_layers}"
            )
        widths = [latent_dim, *[hidden] * (num_layers - 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], size))

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """z (B, latent_dim), standard normal -> x0 (B, *data_shape)."""
        if cond is not None:
            raise DisBackError("MLPGenerator is unconditional, but cond was given; pass None")
        return self.layers(z).reshape(-1, *self.data_shape)
