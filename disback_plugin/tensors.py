"""Tables of named tensors: compared, hashed, copied, loaded strictly; optimizers as such tables."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from disback_plugin.errors import RunError

Value = TypeVar("Value")
Shaped = Tensor | Sequence[int]  # a tensor, or its shape
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def misfit(due: Mapping[str, Shaped], given: Mapping[str, Shaped]) -> str | None:
    """How `given` differs from `due` by names and shapes, in words; None where it does not."""
    found = [
        _listed(kind, sorted(names))
        for kind, names in (("missing", due.keys() - given), ("unexpected", given.keys() - due))
        if names
    ]
    shapes = {name: (_shape(given[name]), _shape(due[name])) for name in due if name in given}
    reshaped = [name for name, (own, expected) in shapes.items() if own != expected]
    if reshaped:
        own, expected = shapes[reshaped[0]]
        more = f" ({len(reshaped)} in all)" if len(reshaped) > 1 else ""
        found.append(f"{reshaped[0]!r} has shape {own}, expected {expected}{more}")
    return ", ".join(found) or None


def _listed(kind: str, names: list[str]) -> str:
    return f"{kind} {names[:3]} ({len(names)} in all)"


def _shape(value: Shaped) -> tuple[int, ...]:
    return tuple(value.shape if isinstance(value, Tensor) else value)


def weights(state: Mapping[str, Value]) -> dict[str, Value]:
    """A state dict without extra state, which is no weight; names as without torch.compile."""
    return {
        name.replace("_orig_mod.", ""): value
        for name, value in state.items()
        if name.rpartition(".")[2] != "_extra_state"
    }


def bits(value: Tensor) -> Tensor:
    """The same memory as integers, equal where the bytes are: NaN is itself, -0 is not 0."""
    value = value.detach()
    value = torch.view_as_real(value) if value.element_size() == 16 else value
    return value.view(_INTEGER[value.element_size()])


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one device have the same dtype, shape and bytes."""
    return one.dtype == other.dtype and torch.equal(bits(one), bits(other))


def bit_sum(value: Tensor) -> Tensor:
    """A checksum over a tensor's bytes, made on its device: one read, 8 bytes at a time (int64)."""
    flat = value.detach().contiguous().view(-1)
    per_word, length = max(8 // flat.element_size(), 1), flat.numel()
    end = length - length % per_word
    words = flat if end == length else flat[:end]
    if words.storage_offset() % per_word:
        words = words.clone()
    total = words.view(torch.int64).sum()
    return total if end == length else total + bits(flat[end:]).sum(dtype=torch.int64)


def tensor_hash(value: Tensor) -> str:
    """16 hex digits of SHA-256 over a tensor's dtype, shape and bytes."""
    digest = hashlib.sha256(f"{value.dtype}{tuple(value.shape)}".encode())
    digest.update(raw_bytes(value))
    return digest.hexdigest()[:16]


def raw_bytes(value: Tensor) -> memoryview:
    """A tensor's bytes in order of its indices; its own memory, where they lie so on the CPU."""
    value = value.detach().cpu().contiguous()
    return value.reshape(-1).view(torch.uint8).numpy().data


def describe_difference(recorded: Mapping[str, str], given: Mapping[str, str]) -> str:
    """How two networks' hashes by name differ: in names, else in how many tensors."""
    names = misfit(dict.fromkeys(recorded, ()), dict.fromkeys(given, ()))
    if names is not None:
        return f"of its {len(recorded)} tensors, {names}"
    changed = [name for name in recorded if recorded[name] != given[name]]
    return f"{len(changed)} of {len(recorded)} tensors differ (first: {changed[:3]})"


def snapshot(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Private copies on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in tensors.items()}


def under(prefix: str, table: Mapping[str, Value]) -> dict[str, Value]:
    """The entries whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): value for name, value in table.items() if name.startswith(prefix)
    }


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` into `module`; RunError naming `source` and the tensors that do not fit."""
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise RunError(f"{source} does not fit the network of these settings: {error}") from None


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors, named `<parameter number>.<slot>`; the rest as JSON data: no pickle.

    A slot that is a dict (bitsandbytes' quantised moments) gives `<number>.<slot>.<name>`.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for number, slots in state["state"].items():
        for slot, value in slots.items():
            nested = isinstance(value, dict)
            named = {f"{slot}.{name}": inner for name, inner in value.items()} if nested else {}
            for name, inner in (named or {slot: value}).items():
                target = tensors if isinstance(inner, Tensor) else scalars
                target[f"{number}.{name}"] = inner
    return tensors, {"param_groups": state["param_groups"], "scalars": scalars}


def unpack_optimizer(
    optimizer: Optimizer, tensors: dict[str, Tensor], plain: dict[str, Any]
) -> None:
    """Load what `pack_optimizer` gave; RunError where it is of other parameters."""
    groups = _groups(optimizer, plain["param_groups"])
    params = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in [*tensors.items(), *plain["scalars"].items()]:
        number, slot, *inner = name.split(".", 2)
        own = state.setdefault(int(number), {})
        if inner:
            _check_number(name, params)
            own.setdefault(slot, {})[inner[0]] = value
            continue
        _check_slot(name, value, params)
        own[slot] = _laid_out(value, params[int(number)])
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
    shape = params[_check_number(name, params)].shape
    if isinstance(value, Tensor) and value.dim() > 0 and value.shape != shape:
        raise RunError(f"optimizer state {name!r} has shape {tuple(value.shape)}, not {shape}")


def _check_number(name: str, params: list[torch.nn.Parameter]) -> int:
    number = int(name.split(".", 1)[0])
    if number >= len(params):
        raise RunError(f"optimizer state {name!r} is for parameter {number} of {len(params)}")
    return number
