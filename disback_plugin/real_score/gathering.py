"""Whole tensors on rank 0, of the pieces that ranks hold: each value is sent once, to it alone."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, distributed

from disback_plugin.distributed import gather, is_main, rank
from disback_plugin.real_score.pieces import Piece

Range = tuple[int, int]


@torch.no_grad()
def gather_pieces(pieces: Mapping[str, Piece]) -> dict[str, Tensor]:
    """Private copies on the CPU, of the tensors that all ranks name alike; empty but on rank 0.

    On a device lies one rank's piece of one tensor at a time beside the network.
    """
    own = {name: piece.held for name, piece in pieces.items()}
    ranks = gather(own, "gathering the fake score")
    whole: dict[str, Tensor] = {}
    for name, piece in pieces.items():
        if is_main():
            whole[name] = torch.empty(piece.shape, dtype=piece.own.dtype)
        for sender, begin, end in _senders([own[name] for own in ranks]):
            part = _part(piece, begin, end, sender)
            if is_main() and part is not None:
                whole[name].view(-1)[begin:end] = part.cpu()
    return whole


def _senders(held: list[Range]) -> Iterator[tuple[int, int, int]]:
    """(rank, from, to): every value from the first rank that holds it."""
    end = 0
    for low, high, number in sorted((*held, number) for number, held in enumerate(held)):
        if high > max(low, end):
            yield number, max(low, end), high
            end = high


def _part(piece: Piece, begin: int, end: int, sender: int) -> Tensor | None:
    """These values, once they are here; None on ranks that have nothing to do with them."""
    value = None
    if rank() == sender:
        value = piece.own.detach().reshape(-1)[begin - piece.first : end - piece.first]
        if sender:
            distributed.send(value.contiguous(), dst=0)
    elif is_main():
        value = torch.empty(end - begin, dtype=piece.own.dtype, device=piece.own.device)
        distributed.recv(value, src=sender)
    return value
