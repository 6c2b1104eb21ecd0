"""`sharding: fsdp2`: networks cut up over the processes by `fully_shard`, under Accelerate.

Weights are kept and exchanged in their own dtype, and the forward passes are in the run's mixed
precision, as without: the order of the sums over processes is all that differs. Files hold whole
tensors, gathered one by one. What is not cut up passes through here as it is.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from disback_plugin.distributed import is_main
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.training import OptimizerSettings

if TYPE_CHECKING:
    from accelerate.utils import FullyShardedDataParallelPlugin
    from torch.distributed.tensor import DTensor  # slow to import

MIN_UNIT = 20_000_000  # parameters gathered at a time, at least: a block of SDXL's has 35 million


def make_plugin() -> "FullyShardedDataParallelPlugin":
    """What Accelerate is told: that processes share FSDP2's networks, which `shard` cuts up."""
    from accelerate.utils import FullyShardedDataParallelPlugin

    return FullyShardedDataParallelPlugin(fsdp_version=2, reshard_after_forward=True)


def cuts_up(accelerator: Accelerator) -> bool:
    """Whether networks are cut up; Accelerate before 1.6 cannot."""
    return getattr(accelerator, "is_fsdp2", False)


def require_sharding(accelerator: Accelerator) -> None:
    """Raise ConfigError where Accelerate has not taken the plugin: one process, or no GPUs."""
    if not cuts_up(accelerator):
        raise ConfigError(
            f"sharding=fsdp2 needs several processes with a GPU each (seen: "
            f"{accelerator.num_processes}, on {accelerator.device.type}): start it with torchrun "
            "or `accelerate launch --multi_gpu`, or leave sharding out"
        )


def shard(module: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The module itself, cut up; where none is, as it is on the device."""
    if not cuts_up(accelerator):
        return module.to(accelerator.device)
    from torch.distributed.fsdp import fully_shard

    for unit in _units(module):
        fully_shard(unit)
    fully_shard(module)  # what is left
    return module


def prepare(
    module: nn.Module, optimizer: OptimizerSettings, accelerator: Accelerator
) -> tuple[nn.Module, AcceleratedOptimizer]:
    """What to call and differentiate, and what to step: Accelerate's wrappers of both."""
    if not cuts_up(accelerator):
        network, made = accelerator.prepare(module, optimizer.make(module.parameters()))
        return network, made
    # its `prepare` would tell cut weights by their addresses, and those of empty parts are alike
    made = accelerator.prepare_optimizer(optimizer.make(shard(module, accelerator).parameters()))
    in_precision = {"device_placement": False, "evaluation_mode": True}  # and nothing else
    return accelerator.prepare_model(module, **in_precision), made


def _units(module: nn.Module) -> list[nn.Module]:
    """Its parts of MIN_UNIT parameters or more, beside those of the units within them."""
    units: list[nn.Module] = []

    def num_left(part: nn.Module) -> int:
        children = [*part.children()]
        num = sum(value.numel() for value in part.parameters(recurse=False))
        num += sum(num_left(child) for child in children)
        is_called = type(part).forward is not nn.Module.forward  # a list of layers is not
        if num < MIN_UNIT or not is_called or not children:
            return num
        units.append(part)
        return 0

    num_left(module)
    return [part for part in units if part is not module]


def clip_gradients(
    accelerator: Accelerator, optimizer: Any, parameters: Iterable[Tensor], max_norm: float | None
) -> Tensor:
    """Clip to this norm of all processes' gradients; returns what it was, a scalar."""
    limit = math.inf if max_norm is None else max_norm
    if not cuts_up(accelerator):
        norm = accelerator.clip_grad_norm_(parameters, limit)
        assert norm is not None
        return norm.detach()
    # Accelerate's own looks for its model by comparing weights, which two alike networks defeat
    accelerator.unscale_gradients(optimizer)
    return whole(nn.utils.clip_grad_norm_(parameters, limit)).detach()


def whole(value: Tensor) -> Tensor:
    """A tensor, gathered where it is cut up: called on every process."""
    return cast("DTensor", value).full_tensor() if hasattr(value, "full_tensor") else value


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, one gathered after the other; of those only rank 0 keeps any, on the CPU."""
    found = {}
    for name, value in tensors.items():
        if not hasattr(value, "full_tensor"):
            found[name] = value
        elif is_main():
            found[name] = whole(value).cpu()
        else:
            whole(value)
    return found


def cut_as(tensors: Mapping[str, Tensor], places: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, each cut as its place is, where that has its shape: no process sends any."""
    return {name: _cut(value, places.get(name)) for name, value in tensors.items()}


def optimizer_places(optimizer: torch.optim.Optimizer, names: Iterable[str]) -> dict[str, Tensor]:
    """The parameter that each of `<parameter number>.<slot>` belongs to."""
    params = [value for group in optimizer.param_groups for value in group["params"]]
    numbers = {name: name.split(".", 1)[0] for name in names}
    known = {name: int(number) for name, number in numbers.items() if number.isdecimal()}
    return {name: params[number] for name, number in known.items() if number < len(params)}


def _cut(value: Tensor, place: Tensor | None) -> Tensor:
    if not hasattr(place, "full_tensor") or place.shape != value.shape:  # type: ignore[union-attr]
        return value
    from torch.distributed.tensor import distribute_tensor

    like = cast("DTensor", place)
    return distribute_tensor(
        value.to(like.device), like.device_mesh, like.placements, src_data_rank=None
    )


class Whole:
    """A network's shape without its weights, made before it is cut up; filled to be used whole."""

    def __init__(self, module: nn.Module) -> None:
        self._empty = copy.deepcopy(module)
        for part in self._empty.modules():
            for name, value in part.named_parameters(recurse=False):
                empty = nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=False)
                setattr(part, name, empty)

    def filled(self, tensors: Mapping[str, Tensor], device: torch.device) -> nn.Module:
        """A network of its own with these weights."""
        module = copy.deepcopy(self._empty)
        own = {name: value.to(device, copy=True) for name, value in tensors.items()}
        module.load_state_dict(own, assign=True)
        return module.to(device).requires_grad_(False).eval()
