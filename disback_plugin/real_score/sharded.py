"""Installation in place under FullyShardedDataParallel: every rank writes its own shards.

A node is gathered where the fake score is read (rank 0 keeps it). It is installed shard by shard:
no rank holds an unsharded network on its device, and it works before the first forward too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FullStateDictConfig, FullyShardedDataParallel, StateDictType

from disback_plugin.path import TeacherReference, choose_rounding
from disback_plugin.path.behind import CheckStop
from disback_plugin.path.stored_node import Parts
from disback_plugin.real_score.copying import Casting, Copied, InstallReport, Node, copy_node
from disback_plugin.real_score.footing import Footing
from disback_plugin.real_score.installation import Installation
from disback_plugin.real_score.pieces import Piece
from disback_plugin.real_score.staging import StagedNode, install_node, stage_node
from disback_plugin.tensors import snapshot, under, weights

_WRAPPER = "_fsdp_wrapped_module."


class ShardedInPlace(Installation):
    """`root` is the FSDP module that holds teacher and fake score under these attribute names.

    `reference` is the teacher as it was before sharding, the same on every rank.
    """

    name = "in-place"

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
        self._of_teacher = Footing()
        self.overwritten()  # nothing was, but from here on

    def read_fake_score(self) -> dict[str, Tensor]:
        """Gathered over all ranks; empty on all but rank 0. Not before the first forward."""
        module, prefix = getattr(self.root, self._fake_score), ""
        if not isinstance(module, FullyShardedDataParallel):  # some of it lies in the root's shard
            module, prefix = self.root, f"{self._fake_score}."
        policy = FullStateDictConfig(offload_to_cpu=True, rank0_only=True)
        with FullyShardedDataParallel.state_dict_type(
            self.root, StateDictType.FULL_STATE_DICT, policy
        ):
            state = module.state_dict()
        return snapshot(weights(under(prefix, state)))

    def check_start(self) -> None:
        """Not checked: shards are compared when the first node is written, by its distance."""

    def load_fake_score(self, tensors: Node) -> None:
        copy_node(self._pieces(self._fake_score), tensors)

    def install(self, node: int, tensors: Node | StagedNode) -> InstallReport:
        pieces, casting = self._pieces(self._teacher), self._casting(node)
        return self._over_ranks(install_node(pieces, tensors, casting, self._of_teacher))

    def parts(self) -> Parts:
        pieces = self._pieces(self._teacher)
        return {
            name: (piece.first, piece.first + piece.own.numel()) for name, piece in pieces.items()
        }

    def staging(self, node: int) -> Callable[[Node, CheckStop], StagedNode]:
        pieces, casting = self._pieces(self._teacher), self._casting(node)
        return lambda tensors, check_stop: stage_node(pieces, tensors, casting, check_stop)

    def overwritten(self) -> list[str]:
        return self._of_teacher.moved(self._pieces(self._teacher))

    def forget(self) -> None:
        self._of_teacher.forget()

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield getattr(self.root, self._teacher)

    # -- helpers --------------------------------------------------------------------------------
    def _casting(self, node: int) -> Casting:
        return Casting.of(node, self.rounding, self.reference.tensors)

    def _over_ranks(self, copied: Copied) -> InstallReport:
        """Each saw its own shards."""
        sums = (copied.gap, copied.size, copied.error, copied.change, copied.along)
        device = next(self.root.parameters()).device
        flags = [*copied.changed.values(), *copied.overwritten.values()]
        total = torch.tensor([*flags, *sums], dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        *nums, gap, size, error, change, along = total.tolist()
        found = iter(num > 0 for num in nums)
        changed = {name: next(found) for name in copied.changed}
        overwritten = {name: next(found) for name in copied.overwritten}
        figures = (gap, size, error, change)
        return Copied(changed, *figures, overwritten, along, copied.measured).report()

    def _pieces(self, role: str) -> dict[str, Piece]:
        """This rank's part of every tensor of a role, in an order that all ranks share."""
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
    if flat.data.numel() != flat._sharded_size.numel():  # left gathered after the last forward
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
