"""How far a node is from its teacher, in one pass over both: chunk by chunk, in a core's cache."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from disback_plugin.path.precision import (
    NodePrecision,
    is_measured,
    relative,
    square_sum,
    without_constants,
)

CHUNK = 1 << 16  # values
_USUAL = (1e-30, 1e30)  # sums of squares that float32 holds without loss


class _Sums(NamedTuple):
    gap: float = 0.0  # |node - teacher|^2
    size: float = 0.0  # |teacher|^2
    changed: int = 0  # values that differ

    def plus(self, other: "_Sums") -> "_Sums":
        return _Sums(self.gap + other.gap, self.size + other.size, self.changed + other.changed)


class Figures:
    """What `add` has seen, as `result`; takes no memory of a tensor's size.

    Squares are summed in float32 within a chunk, else in float64: exact to about 1e-7.
    """

    def __init__(self) -> None:
        self._exact = self._cast = _Sums()
        rows = torch.empty(3, CHUNK, dtype=torch.float32, device="cpu")
        self._gap, self._node, self._teacher = rows.unbind()
        self._gathered, self._num_gathered = torch.empty_like(rows[:2]).unbind(), 0
        self._half = torch.empty(CHUNK, dtype=torch.bfloat16, device="cpu")
        self._differs = np.empty(CHUNK, dtype=bool)

    @torch.no_grad()
    def add(self, node: Tensor, teacher: Tensor) -> None:
        """Look at one tensor of both; integers and flags count nothing."""
        if not is_measured(teacher):
            return
        a, b = _flat(node), _flat(teacher)
        for begin in range(0, b.numel(), CHUNK):
            self._gather(a[begin : begin + CHUNK], b[begin : begin + CHUNK])

    def _gather(self, own: Tensor, base: Tensor) -> None:
        """What is no whole chunk, of small tensors or at a tensor's end, is looked at together."""
        num = own.numel()
        if num == CHUNK:
            self._look(own.float(), base.float())
            return
        if self._num_gathered + num > CHUNK:
            self._look_at_gathered()
        here = slice(self._num_gathered, self._num_gathered + num)
        for row, values in zip(self._gathered, (own, base), strict=True):
            row[here].copy_(values)
        self._num_gathered = here.stop

    def _look_at_gathered(self) -> None:
        if self._num_gathered:
            self._look(*(row[: self._num_gathered] for row in self._gathered))
        self._num_gathered = 0

    def _look(self, own: Tensor, base: Tensor) -> None:
        self._exact = self._exact.plus(self._compare(own, base))
        own, base = self._rounded(own, self._node), self._rounded(base, self._teacher)
        self._cast = self._cast.plus(self._compare(own, base))

    def result(self) -> NodePrecision:
        """Of all that was added."""
        self._look_at_gathered()
        exact, cast = self._exact, self._cast
        return NodePrecision(
            distance=relative(exact.gap, exact.size or 1.0),
            bf16_distance=relative(cast.gap, cast.size or 1.0),
            bf16_survives=cast.changed / exact.changed if exact.changed else 0.0,
        )

    def _rounded(self, value: Tensor, out: Tensor) -> Tensor:
        num = value.numel()
        return out[:num].copy_(self._half[:num].copy_(value))

    def _compare(self, a: Tensor, b: Tensor) -> _Sums:
        sums = self._summed(a, b)
        if _is_usual(sums.size) and (_is_usual(sums.gap) or not sums.changed):
            return sums
        b, a = without_constants(b, a)
        return _Sums(square_sum(a - b), square_sum(b), self._summed(a, b).changed)

    def _summed(self, a: Tensor, b: Tensor) -> _Sums:
        num = b.numel()
        gap = torch.sub(a, b, out=self._gap[:num])
        differs = np.not_equal(gap.numpy(), 0, out=self._differs[:num])
        return _Sums(
            float(torch.dot(gap, gap)), float(torch.dot(b, b)), int(np.count_nonzero(differs))
        )


def measure_precision(node: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> NodePrecision:
    """Compare a node with its teacher, tensor by tensor."""
    figures = Figures()
    for name, reference in teacher.items():
        figures.add(node[name], reference)
    return figures.result()


def _flat(value: Tensor) -> Tensor:
    value = value.detach().cpu()
    return (torch.view_as_real(value) if value.is_complex() else value).reshape(-1)


def _is_usual(total: float) -> bool:
    low, high = _USUAL
    return low < total < high
