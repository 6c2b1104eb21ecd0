"""What curves of one metric say, arm by arm; and the whole of it, as `disback compare` gives it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from disback_plugin.lab.results.curves import Curve, Key, by_arm
from disback_plugin.lab.results.statistics import speed_up, spread

BASELINE = "fixed"


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """One arm at one learning rate over its seeds; its fields are JSON data.

    final, best, and the end's seconds and passes: {"mean", "std", "seeds": {seed: value}}.
    thresholds: {"threshold", "reached", "of", "seeds": {seed: what it took, or None}} each.
    num_nodes: recorded, the mean; None where nothing was to be recorded.
    """

    seeds: list[int]
    final: dict[str, Any]
    best: dict[str, Any]
    seconds: dict[str, Any]
    passes: dict[str, Any]
    num_nodes: float | None
    thresholds: list[dict[str, Any]]


def summarise(curves: Iterable[Curve], thresholds: Sequence[float]) -> dict[Key, ArmSummary]:
    """Every arm at every learning rate; a curve without an evaluation is left out."""
    groups = by_arm(curve for curve in curves if curve.points)
    return {key: _summarise_arm(group, thresholds) for key, group in groups.items()}


def _summarise_arm(curves: Sequence[Curve], thresholds: Sequence[float]) -> ArmSummary:
    nodes = [curve.num_nodes for curve in curves if curve.num_nodes is not None]
    return ArmSummary(
        seeds=[curve.seed for curve in curves],
        final=_over_seeds({curve.seed: curve.end.value for curve in curves}),
        best=_over_seeds({curve.seed: curve.best for curve in curves}),
        seconds=_over_seeds({curve.seed: curve.end.seconds for curve in curves}),
        passes=_over_seeds({curve.seed: curve.end.passes for curve in curves}),
        num_nodes=fmean(nodes) if nodes else None,
        thresholds=[_reaches(curves, threshold) for threshold in thresholds],
    )


def _over_seeds(values: Mapping[int, float]) -> dict[str, Any]:
    """One value that is not finite is None, and makes mean and deviation None."""
    finite = {str(seed): value if math.isfinite(value) else None for seed, value in values.items()}
    numbers = [value for value in finite.values() if value is not None]
    if len(numbers) < len(finite):
        return {"mean": None, "std": None, "seeds": finite}
    mean, std, _ = spread(numbers)
    return {"mean": mean, "std": std, "seeds": finite}


def _reaches(curves: Sequence[Curve], threshold: float) -> dict[str, Any]:
    reaches = {str(curve.seed): curve.reach(threshold) for curve in curves}
    return {
        "threshold": threshold,
        "reached": sum(reach is not None for reach in reaches.values()),
        "of": len(reaches),
        "seeds": {seed: reach._asdict() if reach else None for seed, reach in reaches.items()},
    }


def summarise_sweep(curves: Sequence[Curve], thresholds: Sequence[float]) -> dict[str, Any]:
    """Per arm, learning rate and threshold: cost, and speed-ups in network passes over `fixed`.

    over_same_lr: over `fixed` at the arm's learning rate. over_best_lr: over `fixed` at that of
    its rates which is quickest to this threshold, chosen after the fact in the baseline's favour.
    Both are None where the comparison has no such baseline.
    """
    arms = summarise(curves, thresholds)
    rows = [
        {
            "arm": name,
            "student_lr": lr,
            "num_seeds": len(arm.seeds),
            "final": arm.final["mean"],
            "final_std": arm.final["std"],
            "seconds": arm.seconds["mean"],
            "passes": arm.passes["mean"],
            "num_nodes": arm.num_nodes,
            "thresholds": [_threshold(arms, (name, lr), at) for at in range(len(thresholds))],
        }
        for (name, lr), arm in arms.items()
    ]
    return {"baseline": BASELINE, "cost": "network passes", "arms": rows}


def _threshold(arms: Mapping[Key, ArmSummary], key: Key, index: int) -> dict[str, Any]:
    arm, fixed = arms[key], [key for key in arms if key[0] == BASELINE]
    best = min(fixed, key=lambda key: fmean(_clipped(arms[key], index)), default=None)
    return {
        "threshold": arm.thresholds[index]["threshold"],
        "passes": fmean(_clipped(arm, index)),
        "arrived": arm.thresholds[index]["reached"],
        "over_same_lr": _over(arms.get((BASELINE, key[1])), arm, index),
        "over_best_lr": None if best is None else _over(arms[best], arm, index),
        "best_lr": None if best is None else best[1],
    }


def _over(baseline: ArmSummary | None, arm: ArmSummary, index: int) -> dict[str, Any] | None:
    if baseline is None:
        return None
    value = speed_up(_costs(baseline, index), _costs(arm, index), _budget(baseline), _budget(arm))
    return value._asdict()


def _costs(arm: ArmSummary, index: int) -> list[float | None]:
    reaches = arm.thresholds[index]["seeds"].values()
    return [None if reach is None else reach["passes"] for reach in reaches]


def _clipped(arm: ArmSummary, index: int) -> list[float]:
    """A seed that never arrives counts with its whole budget."""
    pairs = zip(_costs(arm, index), arm.passes["seeds"].values(), strict=True)
    return [budget if cost is None else cost for cost, budget in pairs]


def _budget(arm: ArmSummary) -> float:
    return max(arm.passes["seeds"].values())
