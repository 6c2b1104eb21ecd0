"""Installation in place under FullyShardedDataParallel: every rank writes its own shards.

A node is gathered where the fake score is read (rank 0 keeps it), and installed, shard by shard: no
rank holds an unsharded network on its device, and it works before the first forward too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from disback_plugin.path import TeacherReference, choose_rounding
from disback_plugin.real_score.by_rank import ByRank
from disback_plugin.real_score.pieces import Piece
from disback_plugin.tensors import under

_WRAPPER = "_fsdp_wrapped_module."


class ShardedInPlace(ByRank):
    """`root` is the FSDP module that holds teacher and fake score under these attribute names.

    `reference` is the teacher as it was before sharding, the same on every rank.
    """

    def __init__(
        self,
        root: nn.Module,
        teacher: str,
        fake_score: str,
        rounding: str,
        reference: TeacherReference,
    ) -> None:
        self.root, self.reference = root, reference
        dtypes = {value.dtype for value in root.parameters()}  # some lie in the root's shard
        self.rounding = choose_rounding(rounding, reference.tensors, dtypes)
        self._teacher, self._fake_score = teacher, fake_score
        self.buffers = frozenset(dict(buffer_pieces(getattr(root, teacher))))
        super().__init__()

    def check_start(self) -> None:
        """Not checked: shards are compared when the first node is written, by its distance."""

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield getattr(self.root, self._teacher)

    # -- helpers --------------------------------------------------------------------------------
    def _device(self) -> torch.device:
        return next(self.root.parameters()).device

    def _of_teacher(self) -> dict[str, Piece]:
        return self._pieces(self._teacher)

    def _of_fake_score(self) -> dict[str, Piece]:
        return self._pieces(self._fake_score)

    def _pieces(self, role: str) -> dict[str, Piece]:
        buffers = buffer_pieces(getattr(self.root, role))
        pieces = under(f"{role}.", dict(shard_pieces(self.root)))
        pieces |= {name: piece for name, piece in buffers if name in self.reference.tensors}
        return dict(sorted(pieces.items()))


def shard_pieces(root: nn.Module) -> Iterator[tuple[str, Piece]]:
    """Per original parameter under `root`: its name, and this rank's part."""
    for path, module in root.named_modules():
        if isinstance(module, FullyShardedDataParallel) and module._handle is not None:
            prefix = f"{path}.".replace(_WRAPPER, "").removeprefix(".")
            for name, piece in _shard(module._handle):
                yield f"{prefix}{name}", piece


def buffer_pieces(root: nn.Module) -> Iterator[tuple[str, Piece]]:
    """The same of all buffers: they are not sharded, each rank has them whole."""
    for name, buffer in root.named_buffers():
        yield name.replace(_WRAPPER, ""), Piece(buffer, buffer.shape)


def _shard(handle: Any) -> Iterator[tuple[str, Piece]]:
    """The original tensors within one flat parameter, cut to this rank's shard of it."""
    flat = handle.flat_param
    # left gathered by the last forward, and read again by the next, whatever `flat` shows by now:
    # the root's unit, without a backward every unit, with SHARD_GRAD_OP too
    gathered = hasattr(flat, "_full_param_padded") and not handle.needs_unshard()
    if handle.uses_sharded_strategy and gathered:
        handle.reshard(True)
    shard = flat.data
    # with one rank a shard nothing is cut
    first = handle.rank * shard.numel() if handle.uses_sharded_strategy else 0
    offset, names = 0, iter(zip(flat._fqns, flat._shapes, strict=True))
    for numel, is_padding in zip(flat._numels_with_padding, flat._is_padding_mask, strict=True):
        if not is_padding:
            name, shape = next(names)
            assert numel == shape.numel()
            low = min(max(first - offset, 0), numel)
            high = min(max(first + shard.numel() - offset, 0), numel)
            begin = max(offset - first, 0)
            own = shard[begin : begin + high - low]
            yield name.replace(_WRAPPER, ""), Piece(own, shape, (low, high))
        offset += numel
