"""DisBack against one control: paired speed-ups, and whether a difference exceeds the spread.

The rule for an outcome is simple enough to check from the tables: a difference of means counts when
it is larger than either arm's standard deviation over seeds (and, for times, than one evaluation).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from disback_plugin.metrics import (
    Interval,
    higher_is_better,
    paired_ratios,
    ratio_interval,
    spread,
)

CONTROLS = ("fixed", "warm")
Outcome = Literal["better", "worse", "tie", "unknown"]


def speedups(disback: Mapping[str, Any], control: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per threshold the control's cost over DisBack's, on the seeds where both reached it."""
    return [
        _speedup(ours, theirs)
        for ours, theirs in zip(disback["thresholds"], control["thresholds"], strict=True)
    ]


def compare(disback: Mapping[str, Any], control: Mapping[str, Any], primary: str) -> dict[str, Any]:
    """Outcomes at the end of the budget and in time to a threshold, and both together."""
    final = _compare_finals(disback["finals"][primary], control["finals"][primary], primary)
    speed = _compare_speed(disback, control)
    return {"final": final, "speed": speed, "outcome": together(final["outcome"], speed["outcome"])}


def together(final: Outcome, speed: Outcome) -> str:
    """helped, hurt, mixed (better in one and worse in the other), tie or unknown."""
    seen = {final, speed}
    if {"better", "worse"} <= seen:
        return "mixed"
    if "better" in seen:
        return "helped"
    if "worse" in seen:
        return "hurt"
    return "tie" if "tie" in seen else "unknown"


def _speedup(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    seeds = _common_seeds(ours["seeds"], theirs["seeds"])
    entry: dict[str, Any] = {
        "threshold": ours["threshold"],
        "of": len(seeds),
        "disback_reached": sum(ours["seeds"][seed] is not None for seed in seeds),
        "control_reached": sum(theirs["seeds"][seed] is not None for seed in seeds),
    }
    for cost in ("steps", "seconds", "passes"):
        ratios = paired_ratios(
            [_cost(theirs, seed, cost) for seed in seeds],
            [_cost(ours, seed, cost) for seed in seeds],
        )
        known = [ratio for ratio in ratios if ratio is not None]
        interval = ratio_interval(known) if known else Interval(float("nan"), None, None)
        entry[cost] = {
            "ratio": interval.estimate if known else None,
            "low": interval.low,
            "high": interval.high,
            "pairs": len(known),
            "seeds": dict(zip(seeds, ratios, strict=True)),
        }
    return entry


def _compare_finals(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], primary: str
) -> dict[str, Any]:
    seeds = _common_seeds(ours["seeds"], theirs["seeds"])
    mine = [ours["seeds"][seed] for seed in seeds]
    other = [theirs["seeds"][seed] for seed in seeds]
    entry: dict[str, Any] = {"num_seeds": len(seeds), "disback": None, "control": None}
    diverged, control_diverged = mine.count(None), other.count(None)
    if not seeds or diverged or control_diverged:
        entry["outcome"] = _more(control_diverged, diverged)
        return entry
    entry["disback"], entry["control"] = _mean_std(mine), _mean_std(other)
    sign = 1 if higher_is_better(primary) else -1
    entry["outcome"] = _beyond_spread([sign * v for v in mine], [sign * v for v in other])
    return entry


def _compare_speed(disback: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any]:
    """Steps to the hardest threshold that decides: one that all seeds of an arm reached, while of
    the other arm all did too (then the costs are compared) or none did."""
    pairs = list(zip(disback["thresholds"], control["thresholds"], strict=True))
    for ours, theirs in reversed(pairs):
        entry = _speedup(ours, theirs)
        counts = (entry["disback_reached"], entry["control_reached"])
        if entry["of"] == 0 or set(counts) - {0, entry["of"]} or not any(counts):
            continue
        if counts[0] != counts[1]:
            return entry | {"outcome": _more(*counts)}
        seeds = list(entry["steps"]["seeds"])
        mine = [-ours["seeds"][seed]["steps"] for seed in seeds]
        other = [-theirs["seeds"][seed]["steps"] for seed in seeds]
        gap = max(arm["seeds"][seed]["gap"] for arm in (ours, theirs) for seed in seeds)
        return entry | {"outcome": _beyond_spread(mine, other, at_least=gap)}
    return {"outcome": "unknown"}


def _beyond_spread(mine: Sequence[float], other: Sequence[float], at_least: float = 0.0) -> Outcome:
    """Whether the means (higher is better) differ by more than the larger standard deviation."""
    (mean, std, _), (other_mean, other_std, _) = spread(mine), spread(other)
    if abs(mean - other_mean) <= max(std or 0.0, other_std or 0.0, at_least):
        return "tie"
    return "better" if mean > other_mean else "worse"


def _more(mine: int, other: int) -> Outcome:
    return "unknown" if mine == other else "better" if mine > other else "worse"


def _mean_std(values: Sequence[float]) -> dict[str, float | None]:
    mean, std, _ = spread(values)
    return {"mean": mean, "std": std}


def _common_seeds(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [seed for seed in ours if seed in theirs]


def _cost(entry: Mapping[str, Any], seed: str, cost: str) -> float | None:
    reach = entry["seeds"][seed]
    return None if reach is None else reach[cost]
