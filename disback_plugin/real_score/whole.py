"""Installation of whole networks: into the host's teacher module, or into a module beside it."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from disback_plugin.distributed import is_main
from disback_plugin.errors import InstallError
from disback_plugin.path import TeacherReference
from disback_plugin.real_score.copying import InstallReport, copy_node, whole_pieces
from disback_plugin.real_score.installation import Installation, unwrap
from disback_plugin.tensors import misfit, snapshot


def live_tensors(module: nn.Module, role: str) -> dict[str, Tensor]:
    """The module's state dict, made sure to be the weights themselves: written to, they change.

    Raises InstallError for a state dict of copies (FSDP, custom hooks): a node copied into those
    would change nothing, silently.
    """
    weights = [*module.parameters(), *module.buffers()]
    if any(hasattr(value, "full_tensor") for value in weights):
        raise InstallError(f"the {role} is sharded (FSDP2, DTensor), which is not supported yet")
    storage = {value.data_ptr() for value in weights}
    state = module.state_dict()
    copies = [name for name, value in state.items() if value.data_ptr() not in storage]
    if copies:
        raise InstallError(
            f"the {role}'s state_dict() gives copies of its weights ({len(copies)} of "
            f"{len(state)}, first: {copies[:3]}), so a node cannot be installed through it: give "
            "the plain module"
        )
    return state


def finest_reference(
    teacher: Mapping[str, Tensor], fake_score: Mapping[str, Tensor]
) -> TeacherReference:
    """The teacher, in the precision of the fake score's start where it was cast from that.

    Only then: cast to the teacher's dtype the reference must give the teacher's exact bytes.
    """
    cast_from_it = all(
        torch.equal(fake_score[name].detach().to(value.dtype).cpu(), value.detach().cpu())
        for name, value in teacher.items()
    )
    return TeacherReference.of(fake_score if cast_from_it else teacher)


def _equal(one: Tensor, other: Tensor) -> bool:
    """In the coarser dtype of the two."""
    coarse = one.dtype if one.element_size() < other.element_size() else other.dtype
    return torch.equal(one.detach().cpu().to(coarse), other.detach().cpu().to(coarse))


class _WholeNetwork(Installation):
    """Teacher and fake score are two networks of the same architecture.

    `reference`: the teacher, where it is not what the module holds now (a host loaded a
    checkpoint). Cast to nearest it must give the module's own bytes: for a 16-bit teacher the
    default is the fake score's start, the same network in more precision, so that distances
    measure the path.
    """

    def __init__(
        self,
        teacher: nn.Module,
        fake_score: nn.Module,
        rounding: str,
        reference: TeacherReference | None = None,
    ) -> None:
        self.teacher, self.fake_score = unwrap(teacher), unwrap(fake_score)
        self.rounding = rounding
        own, fake = (
            live_tensors(self.teacher, "teacher"),
            live_tensors(self.fake_score, "fake score"),
        )
        self._dtypes = {name: value.dtype for name, value in own.items()}
        if problem := misfit(own, fake):
            raise InstallError(
                f"teacher and fake score have different architectures: in the fake score, {problem}"
            )
        self.reference = reference or finest_reference(own, fake)

    def read_fake_score(self) -> dict[str, Tensor]:
        if not is_main():
            return {}  # rank 0 alone writes nodes
        return snapshot(self.fake_score.state_dict())

    def check_start(self) -> None:
        own, fake = self.reference.tensors, live_tensors(self.fake_score, "fake score")
        first = next((name for name in own if not _equal(fake[name], own[name])), None)
        if first is not None:
            raise InstallError(
                f"the fake score does not start as the teacher (tensor {first!r} differs): copy "
                "the teacher's weights into it first, recording degrades from there"
            )

    def load_fake_score(self, tensors: Mapping[str, Tensor]) -> None:
        copy_node(whole_pieces(live_tensors(self.fake_score, "fake score")), tensors)

    def _copy_into(
        self, module: nn.Module, node: int, tensors: Mapping[str, Tensor]
    ) -> InstallReport:
        own = live_tensors(module, "teacher")
        cast = [name for name, value in own.items() if value.dtype != self._dtypes.get(name)]
        if cast:
            raise InstallError(
                f"the teacher was {self._dtypes[cast[0]]} when DisBack was attached and is "
                f"{own[cast[0]].dtype} now: cast it before attaching"
            )
        rounding = self.rounding if node else "nearest"  # the teacher's exact bytes
        teacher = self.reference.tensors
        return copy_node(whole_pieces(own), tensors, rounding, f"node {node}", teacher).report()


class InPlace(_WholeNetwork):
    """A node is copied into the host's own teacher module; wrappers around it stay valid.

    No device memory beyond the host's. For hosts that use their teacher as the real score only.
    """

    name = "in-place"

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        return self._copy_into(self.teacher, node, tensors)

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield self.teacher


class SeparateModule(_WholeNetwork):
    """Nodes live in a frozen copy; the host's teacher stays untouched and answers as node 0.

    For hosts that use their teacher for other things too (features for a discriminator).
    """

    name = "separate"
    needs_real_score = True

    def __init__(
        self,
        teacher: nn.Module,
        fake_score: nn.Module,
        rounding: str,
        reference: TeacherReference | None = None,
    ) -> None:
        super().__init__(teacher, fake_score, rounding, reference)
        self._node_module: nn.Module | None = None
        self._node = 0

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        if node == 0:
            changed = len(self.reference.tensors) if self._node else 0
            self._node, self._node_module = 0, None  # its memory is free again
            return InstallReport(changed, len(self.reference.tensors), 0.0)
        if self._node_module is None:
            self._node_module = copy.deepcopy(self.teacher).requires_grad_(False)
        self._node = node
        return self._copy_into(self._node_module, node, tensors)

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        module = self._node_module
        if module is None:
            yield self.teacher
        else:
            yield module.train(self.teacher.training)
