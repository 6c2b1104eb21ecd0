"""Installation in place under `fully_shard` (FSDP2): every rank writes its own part of DTensors.

Teacher and fake score are modules of their own or parts of one root, cut up over one dimension of a
mesh and repeated over others; a network beside them, or some of its weights, may be whole.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from disback_plugin.distributed import gather, on_every
from disback_plugin.errors import InstallError
from disback_plugin.path import TeacherReference, choose_rounding
from disback_plugin.real_score.by_rank import ByRank
from disback_plugin.real_score.installation import unwrap
from disback_plugin.real_score.pieces import Piece
from disback_plugin.real_score.weights import advise, live_tensors, refuse_misfit
from disback_plugin.real_score.whole import refuse_other_start
from disback_plugin.tensors import same_bits, weights

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor  # slow to import


class DTensorInPlace(ByRank):
    """Made on every rank: the teacher is gathered once, tensor by tensor, to be remembered."""

    def __init__(self, teacher: nn.Module, fake_score: nn.Module, rounding: str) -> None:
        self.teacher, self.fake_score = unwrap(teacher), unwrap(fake_score)

        def look() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            own = live_tensors(self.teacher, "teacher", cut=True)
            fake = live_tensors(self.fake_score, "fake score", cut=True)
            refuse_misfit(own, fake, lambda: advise(self.teacher, self.fake_score))
            for name, value in [*own.items(), *fake.items()]:
                _piece(name, value)
            return own, fake

        found: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []
        on_every(lambda: found.append(look()), "looking at teacher and fake score")
        own, fake = found[0]
        self.reference = _gathered_reference(own, fake)
        dtypes = {value.dtype for value in own.values()}
        self.rounding = choose_rounding(rounding, self.reference.tensors, dtypes)
        self.buffers = frozenset(weights(dict(self.teacher.named_buffers())))
        super().__init__()

    def check_start(self) -> None:
        pieces, own = self._of_fake_score(), self.reference.tensors
        on_every(lambda: refuse_other_start(pieces, own), "comparing fake score and teacher")

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield self.teacher

    # -- helpers --------------------------------------------------------------------------------
    def _device(self) -> torch.device:
        return next(self.teacher.parameters()).device

    def _of_teacher(self) -> dict[str, Piece]:
        return _pieces(live_tensors(self.teacher, "teacher", cut=True))

    def _of_fake_score(self) -> dict[str, Piece]:
        return _pieces(live_tensors(self.fake_score, "fake score", cut=True))


def _pieces(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    return {name: _piece(name, value) for name, value in tensors.items()}


def _piece(name: str, value: Tensor) -> Piece:
    """This rank's part of one tensor; InstallError where it is not one range of it."""
    if not hasattr(value, "full_tensor"):
        return Piece(value, value.shape)
    from torch.distributed.tensor import Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    value = cast("DTensor", value)
    own, cuts = value.to_local(), [cut for cut in value.placements if not cut.is_replicate()]
    by_rows = len(cuts) <= 1 and all(type(cut) is Shard and cut.dim == 0 for cut in cuts)
    if not by_rows or not own.is_contiguous():
        raise InstallError(
            f"{name!r} is cut up as {value.placements}: nodes are installed where tensors are cut "
            "along their first dimension, once, as fully_shard does without shard_placement_fn and "
            "tensor parallelism"
        )
    shape, offset = compute_local_shape_and_global_offset(
        value.shape, value.device_mesh, value.placements
    )
    assert own.shape == shape, (name, own.shape, shape)
    row = value.shape[1:].numel()
    first = offset[0] * row if own.numel() else 0
    return Piece(own.view(-1), value.shape, (first, first + own.numel()))


def _gathered_reference(own: Mapping[str, Tensor], fake: Mapping[str, Tensor]) -> TeacherReference:
    """As `finest_reference` of whole networks, the same on every rank; one tensor at a time."""
    from_it = False
    if any(value.dtype != fake[name].dtype for name, value in own.items()):
        equal = [  # of all, whatever comes first: gathering one is done by all ranks together
            same_bits(_whole(fake[name]).to(value.dtype), _whole(value).to(fake[name].device))
            for name, value in own.items()
        ]
        from_it = all(gather(all(equal)))
    chosen = fake if from_it else own
    return TeacherReference.of({name: _whole(value).cpu() for name, value in chosen.items()})


def _whole(value: Tensor) -> Tensor:
    return cast("DTensor", value).full_tensor() if hasattr(value, "full_tensor") else value
