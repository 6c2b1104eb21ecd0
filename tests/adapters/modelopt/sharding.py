"""`fully_shard` (FSDP2) as Model Optimizer asks for it: the fake score is made on no device.

State dicts are gathered to be noted and kept, and cut up again to be loaded; what is whole stays.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only


def shard(network: nn.Module) -> nn.Module:
    """Cut up over all ranks: each block, and what is around them."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for block in network.transformer_blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def fake_score_on_meta(make: Callable[[], nn.Module], teacher: nn.Module) -> nn.Module:
    """Made without memory, cut up, then given the values of `teacher`, which is cut up already."""
    with torch.device("meta"):
        fake_score = make()
    shard(fake_score.to(next(teacher.parameters()).dtype)).to_empty(device="cpu")
    for name, buffer in fake_score.named_buffers():  # not all are in a state dict
        buffer.copy_(teacher.get_buffer(name))
    fake_score.load_state_dict(teacher.state_dict())
    return fake_score.train().requires_grad_(True)


def whole(state: Any) -> Any:
    """Nested data, in which tensors that are cut up are gathered, on every rank."""
    return tree_map_only(DTensor, DTensor.full_tensor, state)


def cut_as(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A gathered state dict, cut up as another one is."""
    return {name: _cut(state[name], value) for name, value in own.items()}


def moments_cut(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's gathered state dict, cut up as its parameters are."""
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    moments = {
        number: {slot: _cut(value, parameters[number]) for slot, value in slots.items()}
        for number, slots in state["state"].items()
    }
    return {**state, "state": moments}


def _cut(value: Any, like: Tensor) -> Any:
    if not isinstance(like, DTensor) or getattr(value, "shape", None) != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements)
