"""A node's values cast to 16 bits: to the nearest, or at random by their place in the tensor."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache

import torch
from torch import Tensor

from disback_plugin.path.precision import is_measured

_HALF = (torch.bfloat16, torch.float16)
_BLOCK = 1 << 18  # values in a row that draw from one place of the table
_DRAWS = 1 << 16
_LOOKED_AT = 1 << 12  # values of a tensor


def choose_rounding(
    rounding: str, teacher: Mapping[str, Tensor], dtypes: AbstractSet[torch.dtype]
) -> str:
    """What `auto` means for a teacher that a network keeps in `dtypes`; others are as they are.

    `nearest`, whose errors are the smaller ones: the digits that the cast takes from the teacher
    decide which weights a small change carries over. Where it takes none, most weights being exact
    in 16 bits, nearest erases what is below half a unit of all of them: then `stochastic`.
    """
    half = [dtype for dtype in _HALF if dtype in dtypes]
    if rounding != "auto" or not half:
        return "nearest" if rounding == "auto" else rounding
    seen = [
        value.reshape(-1)[:_LOOKED_AT].float() for value in teacher.values() if is_measured(value)
    ]
    exact = sum(int((value == value.to(half[0]).float()).sum()) for value in seen)
    return "stochastic" if 2 * exact > sum(value.numel() for value in seen) else "nearest"


def cast(value: Tensor, dtype: torch.dtype, rounding: str, seed: str, begin: int = 0) -> Tensor:
    """`value` in `dtype`; `stochastic` rounds a float32 to a 16-bit neighbour without bias.

    Each neighbour is taken with probability proportional to nearness, so the expectation over
    weights is the uncast value. What a weight draws depends on `seed` and on its place in the flat
    tensor alone, where `value` begins at `begin`: every rank, every resume and every way to cut the
    tensor gets the same.
    """
    if rounding == "nearest" or dtype not in _HALF or value.dtype in _HALF or not value.numel():
        return value.to(dtype)
    exact = value.float().reshape(-1)
    away = _bfloat16 if dtype == torch.bfloat16 else _neighbour
    parts = [away(exact[low:high], draws, dtype) for low, high, draws in _draws(seed, begin, exact)]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(value.shape)


def _bfloat16(exact: Tensor, draws: Tensor, dtype: torch.dtype) -> Tensor:
    """A bfloat16 is the upper half of a float32: noise added to the lower half carries at times."""
    upper = (exact.view(torch.int32) + draws).bitwise_and_(-_DRAWS)
    rounded = upper.view(torch.float32).to(dtype)
    if math.isfinite(float(exact.sum())):
        return rounded
    return torch.where(exact.isfinite(), rounded, exact.to(dtype))  # a NaN stays one


def _neighbour(exact: Tensor, draws: Tensor, dtype: torch.dtype) -> Tensor:
    near = exact.to(dtype)
    gap = exact - near.float()
    # 16-bit floats order like their sign-magnitude bit patterns: +1 is the next larger magnitude
    outward = (exact.abs() > near.float().abs()).to(torch.int16) * 2 - 1
    other = (near.view(torch.int16) + outward).view(dtype)
    width = (other.float() - near.float()).abs()
    take = (gap != 0) & other.isfinite() & (draws * width < gap.abs() * _DRAWS)
    return torch.where(take, other, near)


def _draws(seed: str, begin: int, exact: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """(from, to, numbers in 0..2^16 - 1) for every stretch of `exact` that lies in one block."""
    table, end = _table(exact.device), begin + exact.numel()
    for start in range(begin - begin % _BLOCK, end, _BLOCK):
        low, high = max(start, begin), min(start + _BLOCK, end)
        digest = hashlib.blake2b(f"{seed}/{start}".encode(), digest_size=8).digest()
        place = int.from_bytes(digest, "little") % _BLOCK - start
        yield low - begin, high - begin, table[place + low : place + high]


@lru_cache
def _table(device: torch.device) -> Tensor:
    """Two blocks of numbers, always the same: a block of a tensor begins anywhere in the first."""
    source, row = torch.Generator("cpu").manual_seed(0), (2 * _BLOCK,)
    return torch.randint(_DRAWS, row, generator=source, dtype=torch.int32, device="cpu").to(device)
