"""Installation in place into a network that is cut up: each rank writes its part of a node."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, distributed

from disback_plugin.path.behind import CheckStop
from disback_plugin.path.stored_node import Parts
from disback_plugin.real_score.copying import Casting, Copied, InstallReport, Node, copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.gathering import gather_pieces
from disback_plugin.real_score.installation import Installation
from disback_plugin.real_score.pieces import Piece
from disback_plugin.real_score.staging import StagedNode, install_node, stage_node


class ByRank(Installation):
    """Of pieces: no rank holds a whole network on its device, and installing moves no weights.

    A subclass says what this rank's pieces are, and sets `reference` and `rounding` before it calls
    this `__init__`. What a report sums up counts once for each rank that holds it.
    """

    name = "in-place"
    rounding: str

    def __init__(self) -> None:
        self._footing = Footing()
        self.overwritten()  # nothing was, but from here on

    @abstractmethod
    def _of_teacher(self) -> dict[str, Piece]:
        """This rank's part of every tensor of the teacher, in an order that all ranks share."""

    @abstractmethod
    def _of_fake_score(self) -> dict[str, Piece]:
        """The same of the fake score."""

    @abstractmethod
    def _device(self) -> torch.device:
        """Where ranks add up what each of them saw."""

    def read_fake_score(self) -> dict[str, Tensor]:
        """Gathered over all ranks; empty on all but rank 0. Nothing else is gathered."""
        found = gather_pieces(self._of_fake_score())
        order = [name for name in self.reference.tensors if name in found]
        return {name: found[name] for name in [*order, *(found.keys() - order)]}

    def load_fake_score(self, tensors: Node) -> None:
        copy_node(self._of_fake_score(), tensors)

    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        pieces, casting = self._of_teacher(), self._casting(node)
        return self._over_ranks(install_node(pieces, tensors, casting, self._footing))

    def parts(self) -> Parts:
        return {name: piece.held for name, piece in self._of_teacher().items()}

    def fake_score_parts(self) -> Parts:
        return {name: piece.held for name, piece in self._of_fake_score().items()}

    def staging(self, node: int) -> Callable[[Node, CheckStop], StagedNode]:
        pieces, casting = self._of_teacher(), self._casting(node)
        return lambda tensors, check_stop: stage_node(pieces, tensors, casting, check_stop)

    def overwritten(self) -> list[str]:
        return self._footing.moved(self._of_teacher())

    def forget(self) -> None:
        self._footing.forget()

    # -- helpers --------------------------------------------------------------------------------
    def _casting(self, node: int) -> Casting:
        return Casting.of(node, self.rounding, self.reference.tensors)

    def _over_ranks(self, copied: Copied) -> InstallReport:
        """Each saw its own shards."""
        sums = (copied.gap, copied.size, copied.error, copied.change, copied.along)
        names = list(copied.changed)  # of tied tensors, a rank with no part sees two
        moved = [copied.overwritten.get(name, False) for name in names]
        flags = [*copied.changed.values(), *moved]
        total = torch.tensor([*flags, *sums], dtype=torch.float64, device=self._device())
        distributed.all_reduce(total)
        *nums, gap, size, error, change, along = total.tolist()
        found = iter(num > 0 for num in nums)
        changed = {name: next(found) for name in names}
        overwritten = {name: next(found) for name in names}
        figures = (gap, size, error, change)
        return Copied(changed, *figures, overwritten, along, copied.measured).report()
