"""A node copied into a network, whole or sharded: cast, compared and measured in one pass."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from disback_plugin.errors import InstallError
from disback_plugin.path import cast, is_measured, reals, relative, square_sum, without_constants
from disback_plugin.real_score.footing import Footing
from disback_plugin.tensors import misfit, same_bits


@dataclass(frozen=True)
class InstallReport:
    """What an installation did.

    changed_tensors of num_tensors: whose bytes are not what they were before.
    distance: of what is installed now, after any cast, relative to the teacher.
    rounding_error: |installed - node| / |node - teacher|: what a cast to 16 bits did to the node; 0
    without a cast, about 1 where it erased the node, more where rounding noise outweighs it. In the
    answers that noise is far smaller, for it has nothing to do with the change.
    kept: the share of node - teacher that is in installed - teacher, along it: 1 without a cast,
    near 1 where the errors are noise, near 0 where the cast erased the node, in its answers too.
    overwritten: tensors that were not what the installation before had left (see `Footing`).
    """

    changed_tensors: int
    num_tensors: int
    distance: float
    rounding_error: float = 0.0
    overwritten: tuple[str, ...] = ()
    kept: float = 1.0


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


def memory(value: Tensor) -> tuple[object, ...]:
    """What two names of one tensor (tied weights) share; nothing is shared by empty ones."""
    return (value.data_ptr(), value.shape, value.stride()) if value.numel() else (id(value),)


@dataclass
class Copied:
    """Which tensors a node has changed; sums of squares over this rank's pieces."""

    changed: dict[str, bool] = field(default_factory=dict)
    gap: float = 0.0  # installed - teacher, both cast
    size: float = 0.0  # the teacher, cast
    error: float = 0.0  # installed - node
    change: float = 0.0  # node - teacher
    overwritten: dict[str, bool] = field(default_factory=dict)
    along: float = 0.0  # (installed - teacher, both cast) . (node - teacher)

    def add(self, installed: Tensor, node: Tensor, teacher: Tensor) -> None:
        """One tensor's sums; integers have none."""
        if not is_measured(installed):
            return
        base, value, exact, before = without_constants(
            reals(teacher.to(installed.dtype)), reals(installed), reals(node), reals(teacher)
        )
        gap = square_sum(value - base)
        self.gap += gap
        self.size += square_sum(base)
        if installed.dtype == node.dtype == teacher.dtype:  # nothing was cast
            self.change += gap
            self.along += gap
        else:
            self.error += square_sum(value - exact)
            self.change += square_sum(exact - before)
            self.along += float(((value - base).double() * (exact - before)).sum())

    def report(self) -> InstallReport:
        """The sums relative to the teacher, and to what the node changes of it."""
        lost = relative(self.error, self.change) if self.change else 0.0
        distance = relative(self.gap, self.size)
        overwritten = tuple(name for name, moved in self.overwritten.items() if moved)
        num = sum(self.changed.values())
        kept = self.along / self.change if self.change else 1.0
        return InstallReport(num, len(self.changed), distance, lost, overwritten, kept)


@torch.no_grad()
def copy_node(
    pieces: Mapping[str, Piece],
    node: Mapping[str, Tensor],
    rounding: str = "nearest",
    seed: str = "",
    teacher: Mapping[str, Tensor] | None = None,
    footing: Footing | None = None,
) -> Copied:
    """Copy `node` into `pieces` in their dtypes; nothing unless all names and shapes match.

    One tensor after the other, each touched once: cast whole on the CPU and then cut, so that every
    number of ranks draws the same rounding. What does not change is not written. Without `teacher`
    there are no sums. With `footing`, what is found is compared with what it knows, what is left
    is noted there.
    """
    if problem := misfit({name: piece.shape for name, piece in pieces.items()}, node):
        raise InstallError(f"the node's tensors are not the network's: {problem}")
    copied, first_names = Copied(), dict[tuple[object, ...], str]()
    for name, piece in pieces.items():
        first = first_names.setdefault(memory(piece.own), name)  # tied weights: one cast for all
        exact = node[name].cpu()
        value = piece.of(cast(exact, piece.own.dtype, rounding, f"{seed}/{first}"))
        if teacher is not None:
            copied.add(value, piece.of(exact), piece.of(teacher[name]))
        value = value.to(piece.own.device)
        if footing is not None and first == name:
            copied.overwritten[name] = footing.has_moved(name, piece.own)
        copied.changed[name] = not same_bits(piece.own, value)
        if copied.changed[name]:
            _write(name, piece.own, value)
        if footing is not None and (copied.changed[name] or first != name):
            footing.keep(name, value)
    return copied


def _write(name: str, own: Tensor, value: Tensor) -> None:
    try:
        with torch.inference_mode() if own.is_inference() else nullcontext():
            own.copy_(value)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InstallError(
            f"{name!r} of the network cannot be written in place ({reason}): give it memory of its "
            "own (tensor.clone()) before attaching"
        ) from None
