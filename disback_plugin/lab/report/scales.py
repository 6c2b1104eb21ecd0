"""Where a value stands on an axis, and which values to name there."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "log", "early"]
ROUND = (1.0, 2.0, 5.0)
FINE = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)  # for less than a decade
NARROW = 2.5  # below this ratio of the ends a log axis is named like a linear one


@dataclass(frozen=True, kw_only=True)
class Scale:
    """[low, high] to [0, 1]. kind `early`: log(1 + value / knee), so that 0 has a place.

    The report's script places its marks by the same three formulas (page.js).
    """

    kind: Kind
    low: float
    high: float
    knee: float = 1.0

    def position(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low)

    def _bent(self, value: float) -> float:
        if self.kind == "log":
            return math.log(value)
        return math.log1p(value / self.knee) if self.kind == "early" else value

    def ticks(self, most: int) -> list[float]:
        """Round values within the ends, about `most` of them, in order."""
        if self.kind == "early":
            decades = self._decades(self.knee, ROUND)
            return self._apart([0.0, *(value for value in decades if value >= self.knee / 2)], most)
        if self.kind == "log" and self.high / self.low >= NARROW:
            steps = FINE if self.high / self.low < 8 else ROUND
            ticks = self._decades(self.low, steps)
            return ticks if len(ticks) <= most else self._decades(self.low, ROUND[:1])
        return _round_steps(self.low, self.high, most)

    def _decades(self, low: float, steps: Iterable[float]) -> list[float]:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(self.high))
        values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [float(f"{value:.6g}") for value in values if self.low <= value <= self.high]

    def _apart(self, values: list[float], most: int) -> list[float]:
        """Without those that stand closer to the one before than 1 / most."""
        kept = values[:1]
        for value in values[1:]:
            if self.position(value) - self.position(kept[-1]) >= 0.9 / most:
                kept.append(value)
        return kept


def _round_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * by for by in (1, 2, 2.5, 5, 10) if power * by >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.10g}") for number in range(first, last + 1)]


def around(values: Iterable[float], *, log: bool) -> Scale:
    """A scale with a little room beyond the least and the largest value; log where asked."""
    found = list(values)
    low, high = min(found), max(found)
    if log:
        room = max((high / low) ** 0.06, 1.02)
        return Scale(kind="log", low=low / room, high=high * room)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(kind="linear", low=low - room, high=high + room)
