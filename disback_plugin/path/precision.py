"""What a node is worth after a cast to 16 bits.

Hosts keep the teacher in bfloat16, and early nodes differ from it by less than one unit in the last
place of most weights, so a plain cast can erase them.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NodePrecision:
    """How far a node is from its teacher.

    distance: |node - teacher| / |teacher|, 2-norm over all floating and complex tensors together;
        |node| where the teacher is all zeros. Values that are not finite in the teacher (a mask of
        -inf) are no distance where the node has them too.
    bf16_distance: the same after both were cast to bfloat16 (to nearest).
    bf16_survives: of the weights that differ, the share that still differ after that cast.
    """

    distance: float
    bf16_distance: float | None = None
    bf16_survives: float | None = None


def is_measured(value: Tensor) -> bool:
    """Whether a tensor counts in distances: integers and flags do not."""
    return value.is_floating_point() or value.is_complex()


def reals(value: Tensor) -> Tensor:
    """A tensor in float32, a complex one as pairs."""
    return (torch.view_as_real(value) if value.is_complex() else value).float()


def alike(a: Tensor, b: Tensor) -> Tensor:
    """Where two tensors are equal, NaN and NaN included."""
    return (a == b) | (a.isnan() & b.isnan())


def difference(a: Tensor, b: Tensor) -> Tensor:
    """a - b; 0 also between equal values that are not finite (a mask of -inf)."""
    gap = a - b
    finite = math.isfinite(float(gap.sum()))  # a sum that overflows costs a look, no more
    return gap if finite else gap.masked_fill_(alike(a, b), 0.0)


def without_constants(teacher: Tensor, node: Tensor, *more: Tensor) -> tuple[Tensor, ...]:
    """All of them with 0 where the teacher is not finite and the node is the same: no distance."""
    if math.isfinite(float(teacher.sum())):
        return teacher, node, *more
    constant = ~teacher.isfinite() & alike(teacher, node)
    return tuple(value.masked_fill(constant, 0.0) for value in (teacher, node, *more))


def square_sum(value: Tensor) -> float:
    """|value|^2 in float64."""
    return value.double().square().sum().item()


def relative(part: float, whole: float) -> float:
    """The root of part / whole, both sums of squares."""
    return (part / whole if whole else (float("inf") if part else 0.0)) ** 0.5
