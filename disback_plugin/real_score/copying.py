"""A node copied into a network, whole or sharded: cast, compared and measured in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from disback_plugin.errors import InstallError
from disback_plugin.path import cast, relative, square_sum
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


@dataclass(frozen=True)
class Piece:
    """What this rank holds of a tensor of `shape`: live memory, written to in place.

    part: where it lies in the flat tensor, from and to; None: it is the whole, in its own shape.
    """

    own: Tensor
    shape: torch.Size
    part: tuple[int, int] | None = None

    def of(self, whole: Tensor) -> Tensor:
        """The same part of another tensor of that shape."""
        return whole if self.part is None else whole.flatten()[slice(*self.part)]


def whole_pieces(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    """Of tensors that this rank has all of."""
    return {name: Piece(value, value.shape) for name, value in tensors.items()}


@dataclass
class Copied:
    """Which tensors a node has changed, in their order; sums of squares over this rank's pieces."""

    changed: list[bool] = field(default_factory=list)
    gap: float = 0.0  # installed - teacher, both cast
    size: float = 0.0  # the teacher, cast
    error: float = 0.0  # installed - node
    change: float = 0.0  # node - teacher

    def add(self, installed: Tensor, node: Tensor, teacher: Tensor) -> None:
        """One tensor's sums; integers have none."""
        if not installed.is_floating_point():
            return
        base = teacher.to(installed.dtype).float()
        gap = square_sum(installed.float() - base)
        self.gap += gap
        self.size += square_sum(base)
        if installed.dtype == node.dtype == teacher.dtype:  # nothing was cast
            self.change += gap
        else:
            self.error += square_sum(installed.float() - node.float())
            self.change += square_sum(node.float() - teacher.float())

    def report(self) -> InstallReport:
        """The sums relative to the teacher, and to what the node changes of it."""
        lost = relative(self.error, self.change) if self.change else 0.0
        distance = relative(self.gap, self.size)
        return InstallReport(sum(self.changed), len(self.changed), distance, lost)


@torch.no_grad()
def copy_node(
    pieces: Mapping[str, Piece],
    node: Mapping[str, Tensor],
    rounding: str = "nearest",
    seed: str = "",
    teacher: Mapping[str, Tensor] | None = None,
) -> Copied:
    """Copy `node` into `pieces` in their dtypes; nothing unless all names and shapes match.

    One tensor after the other, each touched once: cast whole on the CPU and then cut, so that every
    number of ranks draws the same rounding. Without `teacher` there are no sums.
    """
    if problem := misfit({name: piece.shape for name, piece in pieces.items()}, node):
        raise InstallError(f"the node's tensors are not the network's: {problem}")
    copied = Copied()
    for name, piece in pieces.items():
        exact = node[name].cpu()
        value = piece.of(cast(exact, piece.own.dtype, rounding, f"{seed}/{name}"))
        if teacher is not None:
            copied.add(value, piece.of(exact), piece.of(teacher[name]))
        value = value.to(piece.own.device)
        copied.changed.append(not torch.equal(piece.own, value))
        piece.own.copy_(value)
    return copied
