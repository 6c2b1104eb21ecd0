"""An optimizer's state as named tensors and plain JSON data, and back: no pickle."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from disback_plugin.errors import RunError


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, named `<parameter number>.<slot>`; groups and scalar slots as plain data."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for number, slots in state["state"].items():
        for slot, value in slots.items():
            target = tensors if isinstance(value, Tensor) else scalars
            target[f"{number}.{slot}"] = value
    return tensors, {"param_groups": state["param_groups"], "scalars": scalars}


def unpack_optimizer(
    optimizer: Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    """Load what `pack_optimizer` gave; RunError where it is of other parameters."""
    groups = _groups(optimizer, plain["param_groups"])
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain["scalars"].items()]:
        number, slot = name.split(".", 1)
        _check_slot(name, value, params)
        state.setdefault(int(number), {})[slot] = _laid_out(value, params[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _groups(optimizer: Optimizer, saved: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The saved groups with JSON's lists turned back into tuples, after comparing their keys."""
    current = optimizer.state_dict()["param_groups"]
    shape = [(sorted(group), len(group["params"])) for group in current]
    if shape != [(sorted(group), len(group["params"])) for group in saved]:
        raise RunError(
            "the saved optimizer state has other parameter groups than this optimizer: it was"
            " written by another configuration or torch version"
        )
    return [
        {k: tuple(v) if isinstance(now[k], tuple) else v for k, v in group.items()}
        for now, group in zip(current, saved, strict=True)
    ]


def _laid_out(value: Any, like: Tensor) -> Any:
    """In the parameter's memory format: fused kernels pair the two as they lie in memory."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    out = torch.empty_like(like, dtype=value.dtype, device=value.device, requires_grad=False)
    return out.copy_(value)


def _check_slot(name: str, value: Any, params: list[torch.nn.Parameter]) -> None:
    number = int(name.split(".", 1)[0])
    if number >= len(params):
        raise RunError(f"optimizer state {name!r} is for parameter {number} of {len(params)}")
    shape = params[number].shape
    if isinstance(value, Tensor) and value.dim() > 0 and value.shape != shape:
        raise RunError(f"optimizer state {name!r} has shape {tuple(value.shape)}, not {shape}")
