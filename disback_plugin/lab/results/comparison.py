"""DisBack against one control, paired by seed: speed-ups, finals, and which of both decides.

One criterion is fixed before any number is seen: network passes to the hardest threshold that all
seeds of both arms reached (a recording step costs fewer of them than another step). It counts where
the 95 % interval of the paired log ratios excludes 1x and the means differ by more than one
evaluation interval. Without such a threshold the finals decide.
The finals at equal budget (the interval of the paired differences excludes 0) are told in any case,
with an outcome of their own. Fewer than MIN_SEEDS seeds decide nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from disback_plugin.lab.results.curves import higher_is_better
from disback_plugin.lab.results.statistics import (
    MIN_SEEDS,
    Interval,
    mean_interval,
    paired_ratios,
    ratio_interval,
    spread,
)

CONTROLS = ("fixed", "warm")
COSTS = ("steps", "passes")  # exact; seconds depend on what else the machine did
DECIDING = "passes"
Outcome = Literal["better", "worse", "no clear difference", "unknown"]


def speedups(disback: Mapping[str, Any], control: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per threshold the control's cost over DisBack's, on the seeds where both reached it."""
    return [
        _speedup(ours, theirs)
        for ours, theirs in zip(disback["thresholds"], control["thresholds"], strict=True)
    ]


def compare(disback: Mapping[str, Any], control: Mapping[str, Any], primary: str) -> dict[str, Any]:
    """Outcomes in network passes to a threshold and at the end of the budget, on common seeds.

    `speed` is None where no threshold was reached by all seeds of both arms; `short_of` is the
    easiest threshold that some seed did not reach; `decided_on` names what `outcome` stands for.
    """
    speed = _compare_speed(disback, control)
    final = _compare_finals(disback["finals"][primary], control["finals"][primary], primary)
    short_of = next((e for e in speedups(disback, control) if _reached(e) < 2 * e["of"]), None)
    by_speed = speed is not None and speed[DECIDING]["pairs"] == speed["of"]
    return {
        "num_seeds": len(_common_seeds(disback["seeds"], control["seeds"])),
        "decided_on": DECIDING if by_speed else "final",
        "outcome": speed["outcome"] if speed is not None and by_speed else final["outcome"],
        "speed": speed,
        "final": final,
        "short_of": short_of,
    }


def _speedup(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    seeds = _common_seeds(ours["seeds"], theirs["seeds"])
    entry: dict[str, Any] = {
        "threshold": ours["threshold"],
        "of": len(seeds),
        "disback_reached": sum(ours["seeds"][seed] is not None for seed in seeds),
        "control_reached": sum(theirs["seeds"][seed] is not None for seed in seeds),
    }
    for cost in COSTS:
        ratios = paired_ratios(
            [_cost(theirs, seed, cost) for seed in seeds],
            [_cost(ours, seed, cost) for seed in seeds],
        )
        known = {seed: r for seed, r in zip(seeds, ratios, strict=True) if r is not None}
        resolution = _resolution(ours, theirs, list(known))
        ratio, low, high = (
            ratio_interval(list(known.values()), resolution) if known else (None, None, None)
        )
        entry[cost] = {
            "ratio": ratio,
            "low": low,
            "high": high,
            "pairs": len(known),
            "seeds": dict(zip(seeds, ratios, strict=True)),
        }
    return entry


def _resolution(ours: Mapping[str, Any], theirs: Mapping[str, Any], seeds: Sequence[str]) -> float:
    """One evaluation interval over the mean steps of the sooner arm (for passes too)."""
    if not seeds:
        return 0.0
    arms = (ours, theirs)
    gap = max(arm["seeds"][seed]["gap"] for arm in arms for seed in seeds)
    return gap / min(_mean(arm, seeds, "steps") for arm in arms)


def _compare_speed(disback: Mapping[str, Any], control: Mapping[str, Any]) -> dict[str, Any] | None:
    pairs = list(zip(disback["thresholds"], control["thresholds"], strict=True))
    for ours, theirs in reversed(pairs):
        entry = _speedup(ours, theirs)
        if entry["of"] == 0 or _reached(entry) < 2 * entry["of"]:
            continue
        decides = entry[DECIDING]
        if decides["pairs"] < entry["of"]:  # some seed was as good at step 0, where ratios end
            return entry | {"outcome": "unknown"}
        seeds = list(decides["seeds"])
        interval = Interval(decides["ratio"], decides["low"], decides["high"])
        outcome = _outcome(interval, 1.0, better_above=True)
        means = [_mean(arm, seeds, DECIDING) for arm in (ours, theirs)]
        apart = abs(means[0] - means[1]) / min(means)
        if outcome != "unknown" and apart <= _resolution(ours, theirs, seeds):
            outcome = "no clear difference"
        return entry | {"outcome": outcome}
    return None


def _compare_finals(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], primary: str
) -> dict[str, Any]:
    """Paired differences, DisBack's final minus the control's.

    Where samples were not finite there is no difference; then only all seeds of one arm against
    none of the other decide, which arms equally prone to it show in at most 1 of 32 cases.
    """
    seeds = _common_seeds(ours["seeds"], theirs["seeds"])
    mine = [ours["seeds"][seed] for seed in seeds]
    other = [theirs["seeds"][seed] for seed in seeds]
    diverged, control_diverged = mine.count(None), other.count(None)
    entry: dict[str, Any] = {
        "num_seeds": len(seeds), "disback": None, "control": None, "difference": None,
        "diverged": diverged, "control_diverged": control_diverged, "outcome": "unknown",
    }  # fmt: skip
    if diverged or control_diverged or not seeds:
        if len(seeds) >= MIN_SEEDS and {diverged, control_diverged} == {0, len(seeds)}:
            entry["outcome"] = "worse" if diverged else "better"
        return entry
    interval = mean_interval([a - b for a, b in zip(mine, other, strict=True)])
    return entry | {
        "disback": _mean_std(mine),
        "control": _mean_std(other),
        "difference": interval._asdict(),
        "outcome": _outcome(interval, 0.0, better_above=higher_is_better(primary)),
    }


def _outcome(interval: Interval, none: float, *, better_above: bool) -> Outcome:
    """On which side of `none`, the value of no difference, the whole interval lies."""
    if interval.low is None:
        return "unknown"
    if not interval.excludes(none):
        return "no clear difference"
    return "better" if (interval.estimate > none) == better_above else "worse"


def _mean_std(values: Sequence[float]) -> dict[str, float | None]:
    mean, std, _ = spread(values)
    return {"mean": mean, "std": std}


def _common_seeds(ours: Sequence[Any] | Mapping[str, Any], theirs: Any) -> list[Any]:
    return [seed for seed in ours if seed in theirs]


def _reached(entry: Mapping[str, Any]) -> int:
    return entry["disback_reached"] + entry["control_reached"]


def _cost(entry: Mapping[str, Any], seed: str, cost: str) -> float | None:
    reach = entry["seeds"][seed]
    return None if reach is None else reach[cost]


def _mean(entry: Mapping[str, Any], seeds: Sequence[str], cost: str) -> float:
    return spread([entry["seeds"][seed][cost] for seed in seeds]).mean
