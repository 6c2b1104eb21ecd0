"""The draws of all lanes at a step, stacked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.diffusion import Condition
from disback_plugin.errors import ConfigError
from disback_plugin.trainer.draws import Draw


@dataclass(frozen=True)
class LaneDraws:
    """z (S, B, *latent), eps (S, B, *data), sigma (S, B), cond: labels (S, B) or None."""

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Tensor | None

    @classmethod
    def stack(cls, draws: Sequence[Draw]) -> "LaneDraws":
        """One draw a lane. Raises ConfigError for text conditions, which do not stack."""
        labels = [label_tensor(draw.cond) for draw in draws]
        given = [part for part in labels if part is not None]
        return cls(
            z=torch.stack([draw.z for draw in draws]),
            eps=torch.stack([draw.eps for draw in draws]),
            sigma=torch.stack([draw.sigma for draw in draws]),
            cond=torch.stack(given) if given else None,
        )


def label_tensor(cond: Condition | None) -> Tensor | None:
    """Class labels (B,) or None."""
    if cond is None or isinstance(cond, Tensor):
        return cond
    raise ConfigError("compare takes classes or no labels, not prompts: use `disback run`")
