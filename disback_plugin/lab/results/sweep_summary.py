"""The summary of `disback compare`: arms and learning rates, speed-ups over a fixed teacher."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from disback_plugin.lab.results.curves import Curve, Key
from disback_plugin.lab.results.statistics import speed_up
from disback_plugin.lab.results.summary import ArmSummary, summarise

BASELINE = "fixed"


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
