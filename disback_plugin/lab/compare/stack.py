"""Networks of one architecture held as stacked weights, so that all seeds take one batched step."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

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
