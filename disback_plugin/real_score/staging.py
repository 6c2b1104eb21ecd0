"""A node made ready ahead of its switch: read, cast and measured in memory of its own.

That is the whole pass of `copy_node` but for what touches the network, so the switch is left with a
checksum of what it finds and a copy.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from disback_plugin.errors import InstallError
from disback_plugin.path.behind import CheckStop
from disback_plugin.real_score.copying import Casting, Copied, Node, copy_node, tied, write
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.pieces import Piece, checksums, spans
from disback_plugin.tensors import bit_sum, same_bits

_CPU = torch.device("cpu")
_BLOCK = 1 << 28  # bytes: pinned memory comes in powers of two
_ALIGNED = 64


@dataclass(frozen=True)
class StagedNode:
    """This rank's part of a node, in its network's dtypes; pinned where that is on a GPU.

    values: flat; sums: their checksums, which the network's will be; figures: what was measured.
    """

    values: dict[str, Tensor]
    sums: dict[str, int]
    figures: Copied


@torch.no_grad()
def stage_node(
    pieces: Mapping[str, Piece], node: Node, casting: Casting, check_stop: CheckStop
) -> StagedNode:
    """Make `node` ready for `pieces`, whose values are neither read nor written.

    check_stop: called at every chunk; what it raises ends the work.
    """
    figures, sums, values = casting.begin(pieces, node), {}, _room(pieces)
    for name, first in tied(pieces).items():
        room, total = values[name], torch.zeros((), dtype=torch.int64, device=_CPU)
        fill = casting.filler(name, first, node, figures)
        for low, high in spans(room.numel()):
            check_stop()
            fill(pieces[name].first + low, room[low:high])
            total += bit_sum(room[low:high])
        sums[name] = int(total)
    return StagedNode(values, sums, figures)


def install_node(
    pieces: Mapping[str, Piece], node: Node | StagedNode, casting: Casting, footing: Footing
) -> Copied:
    """Copy a node into `pieces`; one that was staged for them is not cast again."""
    if isinstance(node, StagedNode):
        return _copy_staged(pieces, node, footing)
    return copy_node(pieces, node, casting, footing)


@torch.no_grad()
def _copy_staged(pieces: Mapping[str, Piece], staged: StagedNode, footing: Footing) -> Copied:
    """What `copy_node` would do, and report, of the node that was staged for these pieces."""
    for name, piece in pieces.items():
        value = staged.values.get(name)
        if value is None or (value.dtype, value.numel()) != (piece.own.dtype, piece.own.numel()):
            raise InstallError(f"{name!r} of the network has changed since a node was read for it")
    found, copied = checksums(pieces), replace(staged.figures, changed={}, overwritten={})
    for name, first in tied(pieces).items():
        value, left = staged.values[name], staged.sums[name]
        if first == name:
            copied.overwritten[name] = footing.has_moved(name, found[name])
        else:
            found[name] = staged.sums[first]
        copied.changed[name] = found[name] != left or not _holds(pieces[name], value)
        if copied.changed[name]:
            write(name, pieces[name].own, value.view(pieces[name].own.shape))
        footing.keep(name, left)
    return copied


def _holds(piece: Piece, value: Tensor) -> bool:
    """Whether the network's bytes are these."""
    first = piece.first
    return all(
        same_bits(own, value[low - first : high - first].view(own.shape).to(own.device))
        for low, high, own in piece.chunks()
    )


def _room(pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
    """Flat memory for every piece's values, in few blocks."""
    gpu = next((piece.own.device for piece in pieces.values() if piece.own.is_cuda), None)
    room = {}
    for block in _blocks({name: _num_bytes(piece) for name, piece in pieces.items()}):
        with nullcontext() if gpu is None else torch.cuda.device(gpu):  # a thread begins at GPU 0
            whole = torch.empty(
                sum(block.values()), dtype=torch.uint8, device=_CPU, pin_memory=gpu is not None
            )
        end = 0
        for name, size in block.items():
            own = pieces[name].own
            room[name] = whole[end : end + size].view(own.dtype)[: own.numel()]
            end += size
    return room


def _num_bytes(piece: Piece) -> int:
    size = piece.own.numel() * piece.own.element_size()
    return -(-size // _ALIGNED) * _ALIGNED


def _blocks(sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """In their order, as many at a time as fit into a block; a larger one alone."""
    block: dict[str, int] = {}
    used = 0
    for name, size in sizes.items():
        if block and used + size > _BLOCK:
            yield block
            block, used = {}, 0
        block[name] = size
        used += size
    yield block
