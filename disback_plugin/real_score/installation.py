"""Installation: how a node gets into the network that answers as the real score.

It differs by host (in place, separate module, LoRA adapter), so it is a strategy of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, distributed, nn

from disback_plugin.errors import InstallError
from disback_plugin.path import NodePrecision, TeacherReference, cast, measure_precision
from disback_plugin.tensors import misfit


@dataclass(frozen=True)
class InstallReport:
    """What an installation did.

    changed_tensors of num_tensors: whose bytes are not what they were before.
    distance: of what is installed now, after any cast, relative to the teacher.
    rounding_error: |installed - node| / |node - teacher|: what a cast to 16 bits did to the node; 0
    without a cast, about 1 where it erased the node, more where rounding noise outweighs it.
    """

    changed_tensors: int
    num_tensors: int
    distance: float
    rounding_error: float = 0.0


class Installation(ABC):
    """Reads nodes from the fake score and installs them as the real score.

    `reference` is the teacher as it was when the session was attached: node 0's exact tensors.
    """

    name: ClassVar[str]
    needs_real_score: ClassVar[bool] = False  # the node is not in the host's own teacher module
    reference: TeacherReference

    @abstractmethod
    def read_fake_score(self) -> dict[str, Tensor]:
        """The fake score's tensors as a node (CPU copies). Called on every rank."""

    @abstractmethod
    def check_start(self) -> None:
        """Raise InstallError unless the fake score equals the teacher: recording starts there."""

    @abstractmethod
    def load_fake_score(self, tensors: Mapping[str, Tensor]) -> None:
        """Put a node into the fake score, strictly."""

    @abstractmethod
    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        """Make `tensors` the real score; node 0 brings back the teacher's exact bytes."""

    @abstractmethod
    def evaluate(self) -> AbstractContextManager[nn.Module]:
        """The network to call as the real score, within the context."""

    def precision_of(self, tensors: Mapping[str, Tensor]) -> NodePrecision:
        """How far a node is from the teacher, before and after a cast to bfloat16."""
        return measure_precision(tensors, self.reference.tensors)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel and torch.compile wrappers."""
    while True:
        if isinstance(module, nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):
            module = inner
        else:
            return module


def is_sharded(module: nn.Module) -> bool:
    """Whether the module is, or holds, a FullyShardedDataParallel one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    from torch.distributed.fsdp import FullyShardedDataParallel  # slow to import, seldom needed

    return any(isinstance(part, FullyShardedDataParallel) for part in module.modules())


@torch.no_grad()
def copy_tensors(
    target: Mapping[str, Tensor], source: Mapping[str, Tensor], rounding: str, seed: str
) -> int:
    """Copy `source` into `target` in place, cast to its dtypes; returns how many tensors changed.

    Names and shapes must match exactly; nothing is copied unless all do.
    """
    if problem := misfit(target, source):
        raise InstallError(f"the node's tensors are not the network's: {problem}")
    changed = 0
    for name, own in target.items():  # cast on the CPU: the device needs no memory for it
        value = cast(source[name].cpu(), own.dtype, rounding, f"{seed}/{name}")
        changed += not torch.equal(own.cpu(), value)
        own.copy_(value)
    return changed
