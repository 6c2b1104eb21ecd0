"""The MLPs of the 2-D experiment (Appendix E.1), also for tiny images: teacher and student."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from disback_plugin.errors import ConfigError, DisBackError
from disback_plugin.lab.networks.conditioning import Conditioning, film


class ResidualMLP(nn.Module):
    """F(x, c, cond) on flattened data, with FiLM by noise level and label in every block.

    data_shape is that of one sample; num_classes = 0 for unlabelled data; noise_range: see
    Conditioning. zero_output starts the network at F = 0. input_skip adds the input to the output,
    as a U-Net's skips do: an eps-prediction tends to its input at high noise. Paper: the 2-D
    teacher of Appendix E.1.
    """

    def __init__(
        self,
        data_shape: Sequence[int],
        hidden: int = 128,
        num_blocks: int = 3,
        num_classes: int = 0,
        noise_range: float = 4.0,
        zero_output: bool = False,
        input_skip: bool = False,
    ) -> None:
        super().__init__()
        self.data_shape = tuple(data_shape)
        size = math.prod(self.data_shape)
        if size < 1 or num_blocks < 1:
            raise ConfigError(f"need data and a block, not {self.data_shape} and {num_blocks}")
        self.conditioning = Conditioning(hidden, num_classes, noise_range)
        self.first = nn.Linear(size, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(hidden)
        self.input_skip = input_skip
        self.last = nn.Linear(hidden, size)
        if zero_output:
            nn.init.zeros_(self.last.weight)
            nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, c: Tensor, cond: Tensor | None = None) -> Tensor:
        """x (B, *data_shape), noise level c (B,), cond (B,) int64 or None -> (B, *data_shape)."""
        condition = self.conditioning(c, cond)
        h = self.first(x.flatten(1))
        for block in self.blocks:
            h = block(h, condition)
        out = self.last(nn.functional.silu(self.norm(h))).reshape(x.shape)
        return out + x if self.input_skip else out


class _Block(nn.Module):
    """h + W2 silu(W1 silu(FiLM(norm(h))))."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden, elementwise_affine=False)
        self.film = nn.Linear(hidden, 2 * hidden)
        self.inner = nn.Linear(hidden, hidden)
        self.outer = nn.Linear(hidden, hidden)

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        inner = self.inner(nn.functional.silu(film(self.norm(h), self.film(condition))))
        return h + self.outer(nn.functional.silu(inner))


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
