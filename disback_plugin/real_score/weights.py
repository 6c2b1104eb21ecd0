"""The weights of a role, looked at before anything is read from them or written to them."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save
from torch import Tensor, distributed, nn
from torch.nn.parameter import is_lazy

from disback_plugin.distributed import is_main
from disback_plugin.errors import InstallError
from disback_plugin.real_score.installation import is_fully_sharded, is_sharded
from disback_plugin.tensors import misfit, weights

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor  # slow to import


def live_tensors(module: nn.Module, role: str, *, cut: bool = False) -> dict[str, Tensor]:
    """Its weights, made sure to be the module's own: written to, they change.

    cut: DTensors are taken too, each rank looks at its part of them. Raises InstallError as
    `readable` does, and for a state dict of copies (FSDP, custom hooks): a node copied into those
    would change nothing, silently.
    """
    state = readable(module, role, cut=cut)
    if not state:
        raise InstallError(f"the {role} ({type(module).__name__}) has no weights: give its network")
    storage = {_address(value) for value in [*module.parameters(), *module.buffers()]}
    copies = [name for name, value in state.items() if _address(value) not in storage]
    if copies:
        raise InstallError(
            f"the {role}'s state_dict() gives copies of its weights ({len(copies)} of "
            f"{len(state)}, first: {copies[:3]}), so a node cannot be installed through it: give "
            "the plain module (a quantised layer keeps such entries too: give it unquantised)"
        )
    return state


def readable(module: nn.Module, role: str, *, cut: bool = False) -> dict[str, Tensor]:
    """The module's state dict without extra state, which is no weight.

    Raises InstallError naming the entry that is no plain tensor in memory; cut: nor a DTensor.
    """
    refuse_foreign(module, role, cut=cut)
    state = weights(module.state_dict())  # puts away what fully_shard has gathered, outside it too
    for name, value in state.items():
        if problem := _problem(_own(value) if cut else value):
            raise InstallError(f"{name!r} in the {role}'s state_dict() {problem}")
    return state


def refuse_foreign(
    module: nn.Module, role: str, *, compared: bool = False, cut: bool = False
) -> None:
    """Raise InstallError naming a parameter that is no plain tensor in memory.

    compared: no node is made of it, as of the student, which is only compared with itself: this
        rank's part of a tensor will do, in any dtype. cut: nodes are made of DTensors too.
    """
    problem: str | None
    for name, value in module.named_parameters():
        if not compared and hasattr(value, "ds_tensor"):
            problem = (
                "is partitioned by DeepSpeed (ZeRO stage 3), which is not supported: use stage 2, "
                "or build this role outside deepspeed.zero.Init()"
            )
        elif is_lazy(value):
            problem = "is not initialised yet: run a lazy module once before attaching"
        elif compared and hasattr(value, "full_tensor"):
            continue
        elif any(step == 0 and size > 1 for step, size in _layout(value)):
            problem = "is expanded, several of its values share one place: clone() it first"
        else:
            problem = _problem(_own(value) if cut else value, stored=not compared)
        if problem:
            raise InstallError(f"parameter {name!r} of the {role} {problem}")


def local_part(parameter: Tensor) -> Tensor:
    """What this rank holds of a parameter that DTensor or DeepSpeed (ZeRO stage 3) has cut up."""
    if hasattr(parameter, "full_tensor"):
        return cast("DTensor", parameter).to_local()
    return getattr(parameter, "ds_tensor", parameter)


def put_away(module: nn.Module) -> None:
    """Have what `fully_shard` has left gathered after a forward cut up again: by its own hook."""
    if is_fully_sharded(module):
        module.state_dict()


def holds_first(parameter: Tensor) -> bool:
    """Whether this rank's part counts: where several ranks hold the same, that of the first."""
    if not hasattr(parameter, "full_tensor"):
        return is_main()
    value = cast("DTensor", parameter)
    coordinate = value.device_mesh.get_coordinate()
    return coordinate is not None and not any(
        number
        for number, placement in zip(coordinate, value.placements, strict=True)
        if placement.is_replicate()
    )


def repeated(module: nn.Module) -> set[int]:
    """ids of FullyShardedDataParallel's parameters that an earlier rank holds too: HYBRID_SHARD."""
    if not is_sharded(module):
        return set()
    found: set[int] = set()
    for unit in module.modules():
        group, handle = getattr(unit, "_inter_node_pg", None), getattr(unit, "_handle", None)
        if group is not None and handle is not None and distributed.get_rank(group):
            found |= {
                id(value) for value in [handle.flat_param, *(handle.flat_param._params or [])]
            }
    return found


def _own(value: Any) -> Any:
    return local_part(value) if hasattr(value, "full_tensor") else value


def _address(value: Tensor) -> int:
    return local_part(value).data_ptr()


def is_plain(value: Tensor) -> bool:
    """Whether it is values in memory, no subclass that holds them otherwise (DTensor, torchao)."""
    return not is_lazy(value) and type(value).__torch_dispatch__ is Tensor.__torch_dispatch__


def _layout(value: Tensor) -> Iterator[tuple[int, int]]:
    plain = value.layout == torch.strided and is_plain(value)
    return zip(value.stride(), value.shape, strict=True) if plain else iter(())


def _problem(value: Any, *, stored: bool = True) -> str | None:
    """Why this is no tensor that a node can be read from and copied into."""
    kind = type(value)
    if not isinstance(value, Tensor):
        return (
            f"is no tensor ({kind.__name__}), so it is no weight: keep it as extra state "
            "(get_extra_state()), which DisBack leaves out, or out of the state dict; of a "
            "quantised layer, give this role unquantised"
        )
    if hasattr(value, "full_tensor"):
        return (
            "is sharded (FSDP2, DTensor), where nodes are installed 'in-place' only, and no LoRA "
            "is: leave 'installation' out"
        )
    if not is_plain(value):
        return (
            f"is a {kind.__name__}, no plain tensor (quantised?), so no node can be copied into "
            "it: give this role in floating point"
        )
    if value.is_meta:
        return (
            "is on the meta device, its values are elsewhere or were never loaded: take "
            "accelerate's offloading off (accelerate.hooks.remove_hook_from_submodules), load the "
            "weights, then attach"
        )
    if value.layout != torch.strided or value.is_quantized:
        return "is sparse or quantised: give this role as plain tensors (to_dense, dequantize)"
    if value.is_conj() or value.is_neg():
        return "is a view that conjugates or negates another: keep its values (resolve_conj())"
    if stored and not _storable(value.dtype):
        return f"is {value.dtype}, which no safetensors file can hold: cast it (complex: complex64)"
    return None


@lru_cache
def _storable(dtype: torch.dtype) -> bool:
    try:
        save({"": torch.empty(0, dtype=dtype)})
    except (KeyError, RuntimeError):
        return False
    return True


def refuse_misfit(
    teacher: Mapping[str, Tensor], fake: Mapping[str, Tensor], advise: Callable[[], str]
) -> None:
    """Raise InstallError unless both have the same tensors, of one kind, tied alike."""
    if problem := misfit(teacher, fake):
        raise InstallError(
            "teacher and fake score have different architectures: in the fake score, "
            f"{problem}{advise()}"
        )
    kinds = {name: (_kind(value), _kind(fake[name])) for name, value in teacher.items()}
    for name, (own, other) in kinds.items():
        if own != other:
            raise InstallError(
                f"{name!r} is {teacher[name].dtype} in the teacher and {fake[name].dtype} in the "
                "fake score: a quantised network cannot hold a node, give both in floating point"
            )
    for name, first in _ties(teacher).items():
        if _address(fake[name]) != _address(fake[first]):
            raise InstallError(
                f"{first!r} and {name!r} are one tensor in the teacher and two in the fake score: "
                "tie them there too, or a node of it has no place"
            )


def _kind(value: Tensor) -> str:
    names = {"complex": value.is_complex(), "floating": value.is_floating_point()}
    return next((name for name, found in names.items() if found), "integer")


def _ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of tied tensors -> the first name of the same."""
    first: dict[tuple[int, torch.Size], str] = {}
    names = {
        name: first.setdefault((_address(value), value.shape), name)
        for name, value in tensors.items()
        if local_part(value).numel()
    }
    return {name: other for name, other in names.items() if name != other}


def advise(teacher: nn.Module, fake_score: nn.Module) -> str:
    """What to give where one role is a part of the other, as behind a wrapper or beside a head."""
    for role, whole, part in (
        ("fake_score", fake_score, teacher),
        ("teacher", teacher, fake_score),
    ):
        due = weights(part.state_dict())
        for name, module in whole.named_modules():
            if name and misfit(due, weights(module.state_dict())) is None:
                return f". Give the part with the same architecture, its {name!r}, as the {role}"
    if not weights(teacher.state_dict()).keys() - weights(fake_score.state_dict()):
        return (
            ". A head is no part of a node: give the part of the fake score with the teacher's "
            "architecture, without it"
        )
    return ""
