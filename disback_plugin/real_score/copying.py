"""A node copied into a network, whole or sharded: read, cast, compared and counted in one pass."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from disback_plugin.errors import InstallError
from disback_plugin.path import (
    StoredNode,
    cast,
    is_measured,
    reals,
    relative,
    square_sum,
    without_constants,
)
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.pieces import Piece, memory
from disback_plugin.tensors import bit_sum, misfit, same_bits

Node = Mapping[str, Tensor] | StoredNode
Put = Callable[[str, Tensor, Tensor], None]
OF = 1 << 20  # values of a tensor, the first MEASURED of which count in a report's figures
MEASURED = 1 << 13


@dataclass(frozen=True)
class InstallReport:
    """What an installation did.

    changed_tensors of num_tensors: whose bytes are not what they were before.
    distance: of what is installed now, after any cast, relative to the teacher; None where nothing
    was cast: it is the node's own.
    rounding_error: |installed - node| / |node - teacher|: what a cast to 16 bits did to the node; 0
    without a cast, about 1 where it erased the node, more where rounding noise outweighs it. In the
    answers that noise is far smaller, for it has nothing to do with the change.
    kept: the share of node - teacher that is in installed - teacher, along it: 1 without a cast,
    near 1 where the errors are noise, near 0 where the cast erased the node, in its answers too.
    All are of the first MEASURED of every OF values of a tensor: exact where it is no larger.
    overwritten: tensors that were not what the installation before had left (see `Footing`).
    """

    changed_tensors: int
    num_tensors: int
    distance: float | None
    rounding_error: float = 0.0
    overwritten: tuple[str, ...] = ()
    kept: float = 1.0


@dataclass
class Copied:
    """Which tensors a node has changed; sums of squares over this rank's pieces, if measured."""

    changed: dict[str, bool] = field(default_factory=dict)
    gap: float = 0.0  # installed - teacher, both cast
    size: float = 0.0  # the teacher, cast
    error: float = 0.0  # installed - node
    change: float = 0.0  # node - teacher
    overwritten: dict[str, bool] = field(default_factory=dict)
    along: float = 0.0  # (installed - teacher, both cast) . (node - teacher)
    measured: bool = True

    def add(self, installed: Tensor, node: Tensor, teacher: Tensor) -> None:
        """Some of a tensor's values; integers have no sums."""
        if not is_measured(installed):
            return
        base, value, exact, before = without_constants(
            reals(teacher.to(installed.dtype)), reals(installed), reals(node), reals(teacher)
        )
        self.gap += square_sum(value - base)
        self.size += square_sum(base)
        self.error += square_sum(value - exact)
        self.change += square_sum(exact - before)
        self.along += float(((value - base).double() * (exact - before)).sum())

    def report(self) -> InstallReport:
        """The sums relative to the teacher, and to what the node changes of it."""
        lost = relative(self.error, self.change) if self.change else 0.0
        distance = relative(self.gap, self.size) if self.measured else None
        overwritten = tuple(name for name, moved in self.overwritten.items() if moved)
        num = sum(self.changed.values())
        kept = self.along / self.change if self.change else 1.0
        return InstallReport(num, len(self.changed), distance, lost, overwritten, kept)


@dataclass(frozen=True)
class Casting:
    """How a node becomes a network's values. Without `teacher`, or a cast, nothing is measured."""

    rounding: str = "nearest"
    seed: str = ""
    teacher: Mapping[str, Tensor] | None = None

    @classmethod
    def of(cls, node: int, rounding: str, teacher: Mapping[str, Tensor]) -> "Casting":
        """Of that node of a path; the teacher's own bytes come back exactly."""
        return cls(rounding if node else "nearest", f"node {node}", teacher)

    def begin(self, pieces: Mapping[str, Piece], node: Node) -> Copied:
        """What is filled while casting; InstallError unless all names and shapes match."""
        shapes = node.shapes if isinstance(node, StoredNode) else node
        if problem := misfit({name: piece.shape for name, piece in pieces.items()}, shapes):
            raise InstallError(f"the node's tensors are not the network's: {problem}")
        measured = self.teacher is not None and any(
            _flat(node, name)(0, 0).dtype != piece.own.dtype for name, piece in pieces.items()
        )
        return Copied(measured=measured)

    def filler(self, name: str, first: str, node: Node, copied: Copied) -> "Fill":
        """Of one tensor: (from, out) -> its flat values from there on, as installed, into `out`.

        Into memory of ours: what goes into the network is given `write`.
        """
        flat, seed = _flat(node, name), f"{self.seed}/{first}"
        teacher = _flat(self.teacher, name) if copied.measured and self.teacher else None

        def fill(begin: int, out: Tensor, put: Put = _put) -> None:
            end = begin + out.numel()
            exact = value = flat(begin, end).to(out.device)
            if self.rounding != "nearest":
                value = cast(exact, out.dtype, self.rounding, seed, begin)
            put(name, out, value.view(out.shape))
            if teacher is not None:
                for start in range(begin - begin % OF, end, OF):
                    low, high = max(start, begin), min(start + MEASURED, end)
                    if low < high:
                        part, before = slice(low - begin, high - begin), teacher(low, high)
                        copied.add(out.reshape(-1)[part], exact[part], before.to(out.device))

        return fill


class Fill(Protocol):
    """What `Casting.filler` gives."""

    def __call__(self, begin: int, out: Tensor, put: Put = ..., /) -> None: ...


def _put(name: str, out: Tensor, value: Tensor) -> None:
    out.copy_(value, non_blocking=True)


class Scratch:
    """Memory for one chunk of a kind, the same each time: new memory costs more than a cast."""

    def __init__(self) -> None:
        self._rows: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def like(self, own: Tensor) -> Tensor:
        """Of that shape; what it holds is gone at the next call."""
        kind, length = (own.dtype, own.device), own.numel()
        row = self._rows.get(kind)
        if row is None or len(row) < length:
            row = self._rows[kind] = own.new_empty(length)
        return row[:length].view(own.shape)


def _flat(node: Node, name: str) -> Callable[[int, int], Tensor]:
    """Of one tensor: its flat values from one place to another."""
    if isinstance(node, StoredNode):
        return node.flat(name)
    flat = node[name].detach().reshape(-1)
    return lambda begin, end: flat[begin:end]


def tied(pieces: Mapping[str, Piece]) -> dict[str, str]:
    """The name under which each piece's memory comes first: tied weights draw one rounding."""
    names: dict[tuple[object, ...], str] = {}
    return {name: names.setdefault(memory(piece.own), name) for name, piece in pieces.items()}


@torch.no_grad()
def copy_node(
    pieces: Mapping[str, Piece],
    node: Node,
    casting: Casting = Casting(),
    footing: Footing | None = None,
) -> Copied:
    """Copy `node` into `pieces` in their dtypes; nothing unless all names and shapes match.

    One chunk after the other, each touched once; a tensor that does not change is not written.
    With `footing`, what is found is compared with what it knows, what is left is noted there.
    """
    copied, scratch = casting.begin(pieces, node), Scratch()
    for name, first in tied(pieces).items():
        changed, found, left = False, list[Tensor](), list[Tensor]()
        fill = casting.filler(name, first, node, copied)
        for begin, _, own in pieces[name].chunks():
            before = None if footing is None else bit_sum(own)
            if changed:
                fill(begin, own, write)
            else:
                value = scratch.like(own)
                fill(begin, value)
                if changed := not same_bits(own, value):
                    write(name, own, value)
            if before is not None:
                found.append(before)
                left.append(bit_sum(own) if changed else before)
        copied.changed[name] = changed
        if footing is not None:
            if first == name:
                copied.overwritten[name] = footing.has_moved(name, _total(found))
            footing.keep(name, _total(left))
    return copied


def _total(sums: list[Tensor]) -> int:
    """Of the chunks of a tensor, which wraps around as one sum would."""
    if len(sums) == 1:
        return int(sums[0])
    return int(torch.stack(sums).sum()) if sums else 0


def write(name: str, own: Tensor, value: Tensor) -> None:
    """Copy into live memory; InstallError where it cannot be written to."""
    try:
        with torch.inference_mode() if own.is_inference() else nullcontext():
            own.copy_(value, non_blocking=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InstallError(
            f"{name!r} of the network cannot be written in place ({reason}): give it memory of its "
            "own (tensor.clone()) before attaching"
        ) from None
