"""What this rank holds of a network's tensors: live memory, gone through in chunks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.tensors import bit_sum

CHUNK = 1 << 17  # values: a chunk of both sides of a copy stays in a core's cache
CHUNK_ON_DEVICE = 1 << 24  # there a copy in small chunks would wait for its calls
_WORD = 8  # values that always fill whole words of a checksum


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

    @property
    def first(self) -> int:
        """Where it begins in the flat tensor."""
        return self.part[0] if self.part else 0

    @property
    def held(self) -> tuple[int, int]:
        """From where to where it lies in the flat tensor."""
        return self.first, self.first + self.own.numel()

    def chunks(self) -> Iterator[tuple[int, int, Tensor]]:
        """(from, to) in the flat tensor and the live values there, in any shape: chunk by chunk."""
        size = CHUNK if self.own.device.type == "cpu" else CHUNK_ON_DEVICE
        own = self.own.detach()
        if not own.is_contiguous():
            yield from _rows(own, size)
            return
        if 0 < own.numel() <= size:
            yield *self.held, own
            return
        flat = own.view(-1)
        for low, high in spans(flat.numel(), size):
            yield self.first + low, self.first + high, flat[low:high]


def spans(length: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """From 0 to `length` in steps of `size`, (from, to) each."""
    for low in range(0, length, size):
        yield low, min(low + size, length)


def _rows(own: Tensor, size: int) -> Iterator[tuple[int, int, Tensor]]:
    """Of a tensor that lies in memory otherwise, as convolutions in channels_last do."""
    width = own[0].numel() if len(own) else 0
    height = max(size // max(width, 1) // _WORD, 1) * _WORD
    for low, high in spans(len(own), height):
        yield low * width, high * width, own[low:high]


def whole_pieces(tensors: Mapping[str, Tensor]) -> dict[str, Piece]:
    """Of tensors that this rank has all of."""
    return {name: Piece(value, value.shape) for name, value in tensors.items()}


def memory(value: Tensor) -> tuple[object, ...]:
    """What two names of one tensor (tied weights) share; nothing is shared by empty ones."""
    return (value.data_ptr(), value.shape, value.stride()) if value.numel() else (id(value),)


def checksums(pieces: Mapping[str, Piece]) -> dict[str, int]:
    """Over the bytes of each as they are now: one read, made where they lie."""
    sums: dict[torch.device, dict[str, Tensor]] = {}
    for name, piece in pieces.items():
        if piece.own.numel():
            sums.setdefault(piece.own.device, {})[name] = _checksum(piece)
    found = dict.fromkeys(pieces, 0)
    for of_device in sums.values():  # one wait for each device
        found.update(zip(of_device, torch.stack([*of_device.values()]).tolist(), strict=True))
    return found


def _checksum(piece: Piece) -> Tensor:
    own = piece.own.detach()
    if own.is_contiguous() and own.data_ptr() % _WORD == 0:
        return bit_sum(own)  # needs no copy, and is that of all chunks
    return torch.stack([bit_sum(chunk) for _, _, chunk in piece.chunks()]).sum()
