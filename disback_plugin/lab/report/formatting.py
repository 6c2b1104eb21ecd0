"""Numbers as people read them."""

import math
from collections.abc import Mapping
from typing import Any

from disback_plugin.lab.results.statistics import MANY_SEEDS, MIN_SEEDS

NO_VALUE = "not finite"
INTERVALS = (
    f"Student's t over paired seeds, from {MIN_SEEDS} on; from {MANY_SEEDS} on the seeds are "
    "resampled (bootstrap)"
)
SECONDS_NOTE = (
    "Wall-clock seconds, runs may have shared the machine: compare steps and passes instead."
)


def number(value: float | None) -> str:
    """Three significant digits, thousands with commas; a value that is not finite says so."""
    if value is None or not math.isfinite(value):
        return NO_VALUE
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def mean_std(entry: Mapping[str, Any]) -> str:
    """`4.12 ± 0.31`; the mean alone where there is one seed."""
    mean, std = entry["mean"], entry["std"]
    if mean is None or std is None:
        return number(mean)
    if std < 1e-3 * abs(mean):
        return f"{number(mean)} ± 0"
    return f"{number(mean)} ± {number(std) if std >= 99.5 else f'{std:#.2g}'.rstrip('.')}"


def interval(low: float | None, high: float | None, unit: str = "") -> str:
    """`1.52x to 2.10x` for ratios, three digits for values; where there is none, why."""
    if low is None or high is None:
        return "too few seeds for an interval"
    if unit:
        return f"{low:.2f}{unit} to {high:.2f}{unit}"
    return f"{number(low)} to {number(high)}"


def speed(estimate: float, low: float | None, high: float | None) -> str:
    """`1.80x (1.52 to 2.10)`; the estimate alone where there is no interval."""
    return f"{estimate:.2f}x" + ("" if low is None else f" ({low:.2f} to {high:.2f})")


def ratio(entry: Mapping[str, Any], of: int) -> str:
    """`speed`, or why it has no interval; the number of pairs where it is not all of them."""
    if entry["ratio"] is None:
        return "no ratio"
    text = speed(entry["ratio"], entry["low"], entry["high"])
    if entry["low"] is None:
        text += f" ({interval(None, None)})"
    return text if entry["pairs"] == of else f"{text}, {entry['pairs']} of {of} seeds"


def reached(entry: Mapping[str, Any]) -> str:
    """`3 of 3`."""
    return f"{entry['reached']} of {entry['of']}"


def reach_seeds(entry: Mapping[str, Any], cost: str) -> str:
    """`200, 250, never`: the cost per seed."""
    return ", ".join(
        "never" if reach is None else number(reach[cost]) for reach in entry["seeds"].values()
    )


def size(num_bytes: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} B" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"
