"""Installation of whole networks: into the host's teacher module, or into a module beside it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from disback_plugin.distributed import is_main
from disback_plugin.errors import InstallError
from disback_plugin.path import TeacherReference, choose_rounding
from disback_plugin.path.behind import CheckStop
from disback_plugin.real_score.copying import Casting, InstallReport, Node, copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.installation import Installation, unwrap
from disback_plugin.real_score.pieces import Piece, whole_pieces
from disback_plugin.real_score.staging import StagedNode, install_node, stage_node
from disback_plugin.real_score.weights import advise, live_tensors, refuse_misfit
from disback_plugin.tensors import same_bits, snapshot, weights


def finest_reference(
    teacher: Mapping[str, Tensor], fake_score: Mapping[str, Tensor]
) -> TeacherReference:
    """The teacher, in the precision of the fake score's start where it was cast from that.

    Only then: cast to the teacher's dtype the reference must give the teacher's exact bytes.
    """
    teacher, fake_score = weights(teacher), weights(fake_score)
    cast_from_it = all(
        same_bits(fake_score[name].detach().to(value.dtype).cpu(), value.detach().cpu())
        for name, value in teacher.items()
    )
    return TeacherReference.of(fake_score if cast_from_it else teacher)


def _equal(one: Tensor, other: Tensor) -> bool:
    """In the coarser dtype of the two; NaN equals NaN, and 0 equals -0."""
    coarse = one.dtype if one.element_size() < other.element_size() else other.dtype
    a, b = (value.detach().cpu().to(coarse) for value in (one, other))
    return same_bits(a, b) or torch.equal(a, b)


def refuse_other_start(fake: Mapping[str, Piece], teacher: Mapping[str, Tensor]) -> None:
    """Raise InstallError unless what this rank holds of the fake score equals the teacher."""
    first = next(
        (name for name in teacher if not _equal(fake[name].own, fake[name].of(teacher[name]))), None
    )
    if first is not None:
        raise InstallError(
            f"the fake score does not start as the teacher (tensor {first!r} differs): copy "
            "the teacher's weights into it first, recording degrades from there"
        )


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
        own, fake = (
            live_tensors(self.teacher, "teacher"),
            live_tensors(self.fake_score, "fake score"),
        )
        self._dtypes = {name: value.dtype for name, value in own.items()}
        refuse_misfit(own, fake, lambda: advise(self.teacher, self.fake_score))
        self.reference = reference or finest_reference(own, fake)
        dtypes = set(self._dtypes.values())
        self.rounding = choose_rounding(rounding, self.reference.tensors, dtypes)
        self.buffers = frozenset(weights(dict(self.teacher.named_buffers())))
        self._of_teacher = Footing()  # what the host's own module holds
        self._of_teacher.moved(whole_pieces(own))

    def read_fake_score(self) -> dict[str, Tensor]:
        if not is_main():
            return {}  # rank 0 alone writes nodes
        return snapshot(live_tensors(self.fake_score, "fake score"))

    def check_start(self) -> None:
        fake = live_tensors(self.fake_score, "fake score")
        refuse_other_start(whole_pieces(fake), self.reference.tensors)

    def load_fake_score(self, tensors: Node) -> None:
        copy_node(whole_pieces(live_tensors(self.fake_score, "fake score")), tensors)

    def overwritten(self) -> list[str]:
        return self._of_teacher.moved(whole_pieces(live_tensors(self.teacher, "teacher")))

    def staging(self, node: int) -> Callable[[Node, CheckStop], StagedNode] | None:
        pieces = whole_pieces(live_tensors(self.teacher, "teacher"))
        casting = self._casting(node)
        return lambda tensors, check_stop: stage_node(pieces, tensors, casting, check_stop)

    def _copy_into(
        self, module: nn.Module, node: int, tensors: Node | StagedNode, footing: Footing
    ) -> InstallReport:
        own = live_tensors(module, "teacher")
        cast = [name for name, value in own.items() if value.dtype != self._dtypes.get(name)]
        if cast:
            raise InstallError(
                f"the teacher was {self._dtypes[cast[0]]} when DisBack was attached and is "
                f"{own[cast[0]].dtype} now: cast it before attaching"
            )
        return install_node(whole_pieces(own), tensors, self._casting(node), footing).report()

    def _casting(self, node: int) -> Casting:
        return Casting.of(node, self.rounding, self.reference.tensors)


class InPlace(_WholeNetwork):
    """A node is copied into the host's own teacher module; wrappers around it stay valid.

    No device memory beyond the host's. For hosts that use their teacher as the real score only.
    """

    name = "in-place"

    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        return self._copy_into(self.teacher, node, tensors, self._of_teacher)

    def forget(self) -> None:
        self._of_teacher.forget()

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
        self._node, self._of_node = 0, Footing()

    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        if node == 0:
            changed = len(self.reference.tensors) if self._node else 0
            self._node, self._node_module = 0, None  # its memory is free again
            moved = tuple(self.overwritten())
            return InstallReport(changed, len(self.reference.tensors), 0.0, overwritten=moved)
        if self._node_module is None:
            self._node_module, self._of_node = self._copy_of_teacher(), Footing()
        self._node = node
        return self._copy_into(self._node_module, node, tensors, self._of_node)

    def staging(self, node: int) -> Callable[[Node, CheckStop], StagedNode] | None:
        return super().staging(node) if node else None  # the teacher itself answers then

    def _copy_of_teacher(self) -> nn.Module:
        try:
            return copy.deepcopy(self.teacher).requires_grad_(False)
        except RuntimeError as error:  # attributes that are results of a computation
            raise InstallError(
                f"the teacher cannot be copied ({error}): use installation 'in-place'"
            ) from None

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        module = self._node_module
        if module is None:
            yield self.teacher
        else:
            yield module.train(self.teacher.training)
