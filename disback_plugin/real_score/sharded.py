"""Installation in place under FullyShardedDataParallel: every rank writes its own shards.

A node is gathered where the fake score is read (rank 0 keeps it). It is installed shard by shard:
no rank holds an unsharded network on its device, and it works before the first forward too.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import (
    FullStateDictConfig,
    FullyShardedDataParallel,
    StateDictType,
)

from disback_plugin.errors import InstallError
from disback_plugin.path import TeacherReference, cast
from disback_plugin.real_score.installation import Installation, InstallReport
from disback_plugin.tensors import misfit, snapshot, under

_WRAPPER = "_fsdp_wrapped_module."
Piece = tuple[Tensor, tuple[int, int]]  # a flat part, and its place in the whole flat tensor


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
        self.root, self.rounding, self.reference = root, rounding, reference
        self._teacher, self._fake_score = teacher, fake_score

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
        return snapshot(under(prefix, state))

    def check_start(self) -> None:
        """Not checked: shards are compared when the first node is written, by its distance."""

    def load_fake_score(self, tensors: Mapping[str, Tensor]) -> None:
        self._copy(self._fake_score, tensors, "nearest", "fake_score")

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        rounding = self.rounding if node else "nearest"  # the teacher's exact bytes
        return self._copy(self._teacher, tensors, rounding, f"node {node}")

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        yield getattr(self.root, self._teacher)

    # -- helpers --------------------------------------------------------------------------------
    @torch.no_grad()
    def _copy(
        self, role: str, tensors: Mapping[str, Tensor], rounding: str, seed: str
    ) -> InstallReport:
        pieces = dict(self._pieces(role))
        shapes = {name: self.reference.tensors[name] for name in pieces}
        if problem := misfit(shapes, tensors):
            raise InstallError(f"the node's tensors are not those of the sharded {role}: {problem}")
        names = sorted(pieces)
        changed = torch.zeros(len(names), dtype=torch.float64)
        sums = torch.zeros(4, dtype=torch.float64)
        for position, name in enumerate(names):
            own, (start, stop) = pieces[name]
            full, base = tensors[name], self.reference.tensors[name]
            # cast whole, then cut: every rank count draws the same rounding
            value = cast(full, own.dtype, rounding, f"{seed}/{name}").flatten()[start:stop]
            teacher = base.to(own.dtype).flatten()[start:stop].double()
            exact, start_at = (x.flatten()[start:stop].double().cpu() for x in (full, base))
            rounded = value.double().cpu()
            for index, part in enumerate(
                (rounded - teacher, teacher, rounded - exact, exact - start_at)
            ):
                sums[index] += part.square().sum()
            value = value.to(own.device)
            changed[position] = float(not torch.equal(own, value))
            own.copy_(value)
        return self._report(changed, sums)

    def _report(self, changed: Tensor, sums: Tensor) -> InstallReport:
        """Over all ranks: each saw its own shards."""
        device = next(self.root.parameters()).device
        total = torch.cat([changed, sums]).to(device)
        distributed.all_reduce(total)
        gap, size, error, change = total[-4:].tolist()
        num_changed = int((total[:-4] > 0).sum())
        return InstallReport(num_changed, len(changed), _root(gap, size), _root(error, change))

    def _pieces(self, role: str) -> Iterator[tuple[str, Piece]]:
        """Per tensor of a role: this rank's part, and from where to where in the flat tensor."""
        for name, piece in shard_pieces(self.root):
            if name.startswith(f"{role}."):
                yield name.removeprefix(f"{role}."), piece
        for name, piece in buffer_pieces(getattr(self.root, role)):
            if name in self.reference.tensors:
                yield name, piece


def _root(part: float, whole: float) -> float:
    return math.sqrt(part / whole) if whole else 0.0


def shard_pieces(root: nn.Module) -> Iterator[tuple[str, Piece]]:
    """Per original parameter under `root`: its name, this rank's part and where that part lies."""
    for path, module in root.named_modules():
        if isinstance(module, FullyShardedDataParallel) and module._handle is not None:
            prefix = f"{path}.".replace(_WRAPPER, "").removeprefix(".")
            for name, piece in _shard(module._handle):
                yield f"{prefix}{name}", piece


def buffer_pieces(root: nn.Module) -> Iterator[tuple[str, Piece]]:
    """The same of all buffers: they are not sharded, each rank has them whole."""
    for name, buffer in root.named_buffers():
        yield name.replace(_WRAPPER, ""), (buffer.view(-1), (0, buffer.numel()))


def _shard(handle: Any) -> Iterator[tuple[str, Piece]]:
    """The original tensors within one flat parameter, cut to this rank's shard of it."""
    flat = handle.flat_param
    if flat.data.numel() != flat._sharded_size.numel():  # left gathered after the last forward
        handle.reshard(True)
    shard = flat.data
    # with one rank a shard nothing is cut
    first = handle.rank * shard.numel() if handle.uses_sharded_strategy else 0
    offset, names = 0, iter(zip(flat._fqns, flat._numels, strict=True))
    for numel, is_padding in zip(flat._numels_with_padding, flat._is_padding_mask, strict=True):
        if not is_padding:
            name, expected = next(names)
            assert numel == expected
            low = min(max(first - offset, 0), numel)
            high = min(max(first + shard.numel() - offset, 0), numel)
            begin = max(offset - first, 0)
            yield name.replace(_WRAPPER, ""), (shard[begin : begin + high - low], (low, high))
        offset += numel
