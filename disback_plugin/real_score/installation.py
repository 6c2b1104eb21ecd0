"""Installation: how a node gets into the network that answers as the real score.

It differs by host (in place, separate module, LoRA adapter), so it is a strategy of its own.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import ClassVar

from torch import Tensor, distributed, nn

from disback_plugin.path import NodePrecision, TeacherReference, measure_precision
from disback_plugin.path.behind import CheckStop
from disback_plugin.path.stored_node import Parts, verified
from disback_plugin.real_score.copying import InstallReport, Node
from disback_plugin.real_score.staging import StagedNode


class Installation(ABC):
    """Reads nodes from the fake score and installs them as the real score.

    `reference` is the teacher as it was when the session was attached: node 0's exact tensors.
    """

    name: ClassVar[str]
    needs_real_score: ClassVar[bool] = False  # the node is not in the host's own teacher module
    reference: TeacherReference
    rounding: str  # to 16 bits: see `choose_rounding`
    buffers: frozenset[str] = frozenset()  # of the real score: its own forward may move them

    @abstractmethod
    def read_fake_score(self) -> dict[str, Tensor]:
        """The fake score's tensors as a node (CPU copies). Called on every rank."""

    @abstractmethod
    def check_start(self) -> None:
        """Raise InstallError unless the fake score equals the teacher: recording starts there."""

    @abstractmethod
    def load_fake_score(self, tensors: Node) -> None:
        """Put a node into the fake score, strictly."""

    @abstractmethod
    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        """Make `tensors` the real score; node 0 brings back the teacher's exact bytes.

        A StagedNode comes only where `staging` said how to make one.
        """

    def parts(self) -> Parts | None:
        """Which flat values of its tensors this rank needs of a node to install; None: all."""
        return None

    def fake_score_parts(self) -> Parts | None:
        """The same of one that the fake score starts from."""
        return None

    def staging(self, node: int) -> Callable[[Node, CheckStop], StagedNode] | None:
        """How to make a node ready for `install` in another thread; None: not at all."""
        return None

    @abstractmethod
    def evaluate(self) -> AbstractContextManager[nn.Module]:
        """The network to call as the real score, within the context."""

    def verified_teacher(self) -> Node:
        """Node 0, to install now."""
        return verified(self.reference.tensors, self.parts())

    def overwritten(self) -> list[str]:
        """Tensors of this rank's real score and teacher that DisBack has not left so: one pass."""
        return []

    def forget(self) -> None:
        """The host may have loaded a checkpoint: what is there next was not overwritten."""
        return

    def precision_of(self, tensors: Mapping[str, Tensor]) -> NodePrecision:
        """How far a node is from the teacher, before and after a cast to bfloat16."""
        return measure_precision(tensors, self.reference.tensors)


def unwrap(module: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel, DataParallel, DeepSpeed and torch.compile."""
    parallel = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while True:
        if isinstance(module, parallel) or type(module).__name__ == "DeepSpeedEngine":
            module = module.get_submodule("module")
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


def is_fully_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` (FSDP2) was called on it or a part, or parameters are DTensors."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False
    from torch.distributed import fsdp  # slow to import, seldom needed

    if any(hasattr(value, "full_tensor") for value in module.parameters()):
        return True
    unit = getattr(fsdp, "FSDPModule", ())  # torch before 2.6 has it elsewhere
    return any(isinstance(part, unit) for part in module.modules())
