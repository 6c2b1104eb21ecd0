"""The optimizers of what trains: AdamW, or SGD, which the paper gives to its CD students (B.2)."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn
from torch.optim import SGD, AdamW, Optimizer


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with `betas`, unless `momentum` is given: then SGD with it, 0 for none.

    weight_decay: decoupled in AdamW, whose 0 makes it Adam; in SGD a term of the gradient.
    """

    betas: tuple[float, float]
    weight_decay: float = 0.0
    momentum: float | None = None

    def make(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Of torch, as one fused kernel: a small network's step is all overhead."""
        decay, params = self.weight_decay, list(parameters)
        if self.momentum is None:
            return AdamW(params, betas=self.betas, weight_decay=decay, fused=True)
        return SGD(params, momentum=self.momentum, weight_decay=decay, fused=True)
