"""A tensor's change against its teacher in groups of 32 small integers with one scale each.

A row is a group: its scale (bfloat16, 2 bytes), then its integers of 4 or 8 bits. What comes back
is teacher + integer * scale in float32. That product is exact, so every machine rounds once, alike.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from disback_plugin.path.precision import difference, square_sum

GROUP = 32
SCALE = 2  # bytes
WIDTHS = {4: SCALE + GROUP // 2, 8: SCALE + GROUP}  # bytes of a row by bits
CHUNK = 1 << 17  # values at a time: what is made meanwhile stays in a core's cache


def pack(value: Tensor, teacher: Tensor, bound: float) -> Tensor | None:
    """Rows (groups, width) uint8 in the fewest bits whose error is at most `bound`, else None.

    The error, of what `unpack` gives, is relative to this tensor's own change, both as 2-norms.
    """
    own, before = value.detach().reshape(-1), teacher.reshape(-1)
    for bits in WIDTHS:
        rows = own.new_empty(-(-own.numel() // GROUP), WIDTHS[bits], dtype=torch.uint8)
        error = change = 0.0
        for begin, end in chunks(0, own.numel()):
            exact, base = own[begin:end].float(), before[begin:end].float()
            delta = difference(exact, base)
            packed = _pack(delta, bits)
            rows[begin // GROUP : begin // GROUP + len(packed)] = packed
            error += square_sum(difference(base + _unpack(packed)[: end - begin], exact))
            change += square_sum(delta)
        if error <= bound**2 * change:  # false for NaN
            return rows
    return None


def unpack(rows: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
    """The flat values from `begin` to `end`, float32; reads their rows and their part alone."""
    base = teacher.reshape(-1)
    out = base.new_empty(end - begin, dtype=torch.float32)
    for low, high in chunks(begin, end):
        first = low // GROUP
        change = _unpack(rows[first : -(-high // GROUP)])[
            low - first * GROUP : high - first * GROUP
        ]
        torch.add(base[low:high].float(), change, out=out[low - begin : high - begin])
    return out


def is_packed(stored: Tensor, numel: int) -> bool:
    """Whether `stored` is the rows of a tensor of floats, not its values."""
    rows = -(-numel // GROUP)
    return stored.dtype == torch.uint8 and tuple(stored.shape) in {
        (rows, width) for width in WIDTHS.values()
    }


def chunks(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """From `begin` to `end` in parts that begin and end with whole chunks of the tensor."""
    for low in range(begin - begin % CHUNK, end, CHUNK):
        yield max(low, begin), min(low + CHUNK, end)


def _pack(delta: Tensor, bits: int) -> Tensor:
    """Flat float32 -> rows; the last is filled up with zeros.

    The value of largest magnitude gets the lowest integer, -8 of 4 bits: there is one more below 0.
    """
    limit = 1 << (bits - 1)
    groups = torch.nn.functional.pad(delta, (0, -delta.numel() % GROUP)).view(-1, GROUP)
    low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)  # aminmax is slower
    scale = (torch.where(high > -low, high, low) / -limit).to(torch.bfloat16)
    inverse = scale.float().reciprocal_().masked_fill_(scale == 0, 0.0)
    whole = (groups * inverse).round_().clamp_(-limit, limit - 1)
    integers = whole.to(torch.int8).view(torch.uint8)
    if bits == 4:
        integers = (integers[:, : GROUP // 2] & 15) | (integers[:, GROUP // 2 :] << 4)
    return torch.cat((scale.view(torch.uint8), integers), 1)


def _unpack(rows: Tensor) -> Tensor:
    """Rows -> flat changes, float32."""
    scale = rows[:, :SCALE].contiguous().view(torch.bfloat16).float()
    integers = rows[:, SCALE:]
    if rows.shape[1] == WIDTHS[4]:
        integers = torch.cat((integers << 4, integers), 1).view(torch.int8) >> 4
    return (integers.view(torch.int8).float() * scale).view(-1)
