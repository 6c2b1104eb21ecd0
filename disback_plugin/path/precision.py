"""What a node is worth after a cast to 16 bits.

Hosts keep the teacher in bfloat16, and early nodes differ from it by less than one unit in the last
place of most weights, so a plain cast can erase them.
"""

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_HALF = (torch.bfloat16, torch.float16)


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


def cast(value: Tensor, dtype: torch.dtype, rounding: str, seed: str) -> Tensor:
    """`value` in `dtype`; `stochastic` rounds a float32 to a 16-bit neighbour without bias.

    Each neighbour is taken with probability proportional to nearness, so the expectation over
    weights is the uncast value. Deterministic in `seed`: every rank and every resume gets the same.
    """
    if rounding == "nearest" or dtype not in _HALF or value.dtype in _HALF:
        return value.to(dtype)
    exact = value.float()
    near = exact.to(dtype)
    gap = exact - near.float()
    away = gap.abs() > 0
    # 16-bit floats order like their sign-magnitude bit patterns: +1 is the next larger magnitude
    outward = (exact.abs() > near.float().abs()).to(torch.int16) * 2 - 1
    other = (near.view(torch.int16) + outward).view(dtype)
    width = (other.float() - near.float()).abs()
    draw = torch.rand(exact.shape, generator=_generator(seed)).to(exact.device)
    take = away & other.isfinite() & (draw * width < gap.abs())
    return torch.where(take, other, near)


def _generator(seed: str) -> torch.Generator:
    digest = hashlib.blake2b(seed.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
