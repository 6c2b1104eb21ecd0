"""The draws of all lanes at a step, stacked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from disback_plugin.diffusion import Condition
from disback_plugin.errors import ConfigError
from disback_plugin.lab.trainer.batches import Batch


@dataclass(frozen=True)
class LaneDraws:
    """z (S, B, *latent), eps (S, B, *data), sigma (S, B), cond: labels (S, B) or None.

    share (S, B): of a row in its lane's mean; 0 for the rows that fill a smaller batch up.
    """

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Tensor | None
    share: Tensor

    @classmethod
    def stack(cls, draws: Sequence[Batch]) -> "LaneDraws":
        """One draw a lane. Raises ConfigError for text conditions, which do not stack."""
        labels = [label_tensor(draw.cond) for draw in draws]
        given = [part for part in labels if part is not None]
        return cls(
            z=_stack([draw.z for draw in draws]),
            eps=_stack([draw.eps for draw in draws]),
            sigma=_stack([draw.sigma for draw in draws]),
            cond=_stack(given) if given else None,
            share=pad_sequence(
                [draw.sigma.new_full((len(draw.z),), 1 / len(draw.z)) for draw in draws], True
            ),
        )


def _stack(lanes: list[Tensor]) -> Tensor:
    """(S, B, ...); a lane of fewer rows is filled up with its own, again from the first."""
    num = max(len(lane) for lane in lanes)
    return torch.stack([lane[torch.arange(num) % len(lane)] for lane in lanes])


def label_tensor(cond: Condition | None) -> Tensor | None:
    """Class labels (B,) or None."""
    if cond is None or isinstance(cond, Tensor):
        return cond
    raise ConfigError("compare takes classes or no labels, not prompts: use `disback run`")
