"""Networks of one architecture, and their batches, stacked: all seeds take one batched step."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.rnn import pad_sequence

from disback_plugin.diffusion import Condition
from disback_plugin.errors import ConfigError
from disback_plugin.lab.trainer.batches import Batch

Stacked = dict[str, Tensor]


class Stack:
    """S networks as tensors (S, *shape); a lane is one of them. Calls are batched by `vmap`.

    `params` may be trained: the sum over lanes of a loss gives every lane its own gradient.
    """

    def __init__(self, modules: Sequence[nn.Module], trainable: bool = False) -> None:
        params, self.buffers = stack_module_state(list(modules))
        self.params: Stacked = {
            name: value.detach().clone().requires_grad_(trainable) for name, value in params.items()
        }
        self._skeleton = copy.deepcopy(modules[0]).to("meta")

    @property
    def num_lanes(self) -> int:
        """S."""
        return len(next(iter(self.params.values())))

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Inputs (S, B, ...) or None, in the module's order -> outputs (S, B, ...)."""
        dims = tuple(None if value is None else 0 for value in inputs)
        return vmap(self._call_one, (0, 0, dims))(self.params, self.buffers, inputs)

    def call_lane(self, lane: int, weights: Mapping[str, Tensor], *inputs: Tensor | None) -> Tensor:
        """One network of this architecture, with one lane of stacked `weights`; inputs (B, ...)."""
        params, buffers = (
            {name: value[lane] for name, value in stacked.items()}
            for stacked in (weights, self.buffers)
        )
        return self._call_one(params, buffers, inputs)

    def _call_one(
        self, params: Stacked, buffers: Stacked, inputs: tuple[Tensor | None, ...]
    ) -> Tensor:
        return functional_call(self._skeleton, (params, buffers), inputs)

    def snapshot(self) -> Stacked:
        """Copies of all stacked parameters."""
        return {name: value.detach().clone() for name, value in self.params.items()}

    @torch.no_grad()
    def load(self, source: Mapping[str, Tensor], lanes: Tensor) -> None:
        """Copy `source` (S, ...) into the lanes where the mask (S,) is True."""
        for name, own in self.params.items():
            own[lanes] = source[name][lanes]

    def lane(self, index: int) -> Stacked:
        """One lane's parameters."""
        return {name: value.detach()[index].clone() for name, value in self.params.items()}


@dataclass(frozen=True)
class StackedBatch:
    """The draws of all lanes at a step.

    z (S, B, *latent), eps (S, B, *data), sigma (S, B), cond: labels (S, B) or None.
    share (S, B): of a row in its lane's mean; 0 for the rows that fill a smaller batch up.
    """

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Tensor | None
    share: Tensor

    @classmethod
    def stack(cls, draws: Sequence[Batch]) -> "StackedBatch":
        """One draw a lane. Raises ConfigError for text conditions, which do not stack."""
        labels = [label_tensor(draw.cond) for draw in draws]
        given = [part for part in labels if part is not None]
        return cls(
            z=_filled_up([draw.z for draw in draws]),
            eps=_filled_up([draw.eps for draw in draws]),
            sigma=_filled_up([draw.sigma for draw in draws]),
            cond=_filled_up(given) if given else None,
            share=pad_sequence(
                [draw.sigma.new_full((len(draw.z),), 1 / len(draw.z)) for draw in draws], True
            ),
        )


def per_lane(values: Tensor, like: Tensor) -> Tensor:
    """(S,) for broadcasting against (S, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _filled_up(lanes: list[Tensor]) -> Tensor:
    """(S, B, ...); a lane of fewer rows is filled up with its own, again from the first."""
    num = max(len(lane) for lane in lanes)
    return torch.stack([lane[torch.arange(num) % len(lane)] for lane in lanes])


def label_tensor(cond: Condition | None) -> Tensor | None:
    """Class labels (B,) or None."""
    if cond is None or isinstance(cond, Tensor):
        return cond
    raise ConfigError("compare takes classes or no labels, not prompts: use `disback run`")
