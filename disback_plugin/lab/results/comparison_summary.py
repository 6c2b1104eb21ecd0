"""What a comparison says: speed-ups at fixed thresholds, finals, against which baseline."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from disback_plugin.errors import count
from disback_plugin.lab.results.bootstrap import SpeedUp, speed_up
from disback_plugin.lab.results.curves import Curve, by_arm
from disback_plugin.lab.results.statistics import spread

BASELINE = "fixed"
HEADER = """speed-up in network passes, recording and measuring counted
[95 % bootstrap interval: the paired seeds resampled, which takes no shape of their spread for
granted and wants many seeds; `disback run` and `report` give Student's t, safer for a few]"""


def summarise(curves: Sequence[Curve], thresholds: Sequence[float]) -> dict[str, Any]:
    """Per arm, learning rate and threshold: cost, and speed-ups in network passes over `fixed`.

    over_same_lr: over `fixed` at the arm's learning rate. over_best_lr: over `fixed` at that of
    its rates which is quickest to this threshold, chosen after the fact in the baseline's favour.
    Both are None where the comparison has no such baseline.
    """
    groups = by_arm(curves)
    rows = []
    for (arm, lr), group in groups.items():
        final = spread([curve.final for curve in group])
        rows.append(
            {
                "arm": arm,
                "student_lr": lr,
                "num_seeds": len(group),
                "final": final.mean,
                "final_std": final.std,
                "seconds": fmean(curve.points[-1].seconds for curve in group),
                "passes": fmean(curve.points[-1].passes for curve in group),
                "num_nodes": _mean_nodes(group),
                "thresholds": [_row(groups, group, limit) for limit in thresholds],
            }
        )
    return {"baseline": BASELINE, "cost": "network passes", "arms": rows}


def _row(
    groups: dict[tuple[str, float], list[Curve]], group: list[Curve], threshold: float
) -> dict[str, Any]:
    costs = _costs(group, threshold)
    same = groups.get((BASELINE, group[0].student_lr))
    best = _best(groups, threshold)
    return {
        "threshold": threshold,
        "passes": fmean(_clipped(group, threshold)),
        "arrived": sum(cost is not None for cost in costs),
        "over_same_lr": _over(same, group, threshold),
        "over_best_lr": _over(best, group, threshold),
        "best_lr": None if best is None else best[0].student_lr,
    }


def _over(
    baseline: list[Curve] | None, group: list[Curve], threshold: float
) -> dict[str, Any] | None:
    if baseline is None:
        return None
    value: SpeedUp = speed_up(
        _costs(baseline, threshold), _costs(group, threshold), _budget(baseline), _budget(group)
    )
    return value._asdict()


def _best(groups: dict[tuple[str, float], list[Curve]], threshold: float) -> list[Curve] | None:
    fixed = [group for (arm, _), group in groups.items() if arm == BASELINE]
    return min(fixed, key=lambda group: fmean(_clipped(group, threshold)), default=None)


def _costs(group: list[Curve], threshold: float) -> list[float | None]:
    return [curve.passes_to(threshold) for curve in group]


def _clipped(group: list[Curve], threshold: float) -> list[float]:
    """A seed that never arrives counts with its whole budget."""
    costs = zip(group, _costs(group, threshold), strict=True)
    return [curve.points[-1].passes if cost is None else cost for curve, cost in costs]


def _budget(group: list[Curve]) -> float:
    return max(curve.points[-1].passes for curve in group)


def _mean_nodes(group: list[Curve]) -> float | None:
    nodes = [curve.num_nodes for curve in group if curve.num_nodes is not None]
    return fmean(nodes) if nodes else None


def table(summary: dict[str, Any]) -> str:
    """The summary as text, a line an arm and learning rate."""
    lines = [HEADER]
    if any(row["num_seeds"] == 1 for row in summary["arms"]):
        lines.append("one seed has no interval; give --seeds 2 or more")
    if all(row["arm"] != BASELINE for row in summary["arms"]):
        lines.append(f"no speed-ups: the arm {BASELINE}, the baseline, was not run")
    for row in summary["arms"]:
        num = row["num_seeds"]
        nodes = "" if row["num_nodes"] is None else f", {row['num_nodes']:.1f} nodes"
        std = "" if row["final_std"] is None else f" +- {row['final_std']:.2g}"
        lines.append(
            f"\n{row['arm']} at {row['student_lr']:g} ({count(num, 'seed')}{nodes}): "
            f"final {row['final']:.3g}{std}"
        )
        for limit in row["thresholds"]:
            arrived = f"{limit['arrived']}/{num}"
            cost = f"{limit['passes']:.0f} passes" if limit["arrived"] else "not reached"
            lines.append(
                f"  to {limit['threshold']:<6g} {cost:>15}  {arrived:>6}  "
                f"same lr {_cell(limit['over_same_lr'])}  best lr {_cell(limit['over_best_lr'])}"
            )
    return "\n".join(lines)


def bound(value: dict[str, Any]) -> str:
    """`<=`: more of the baseline's seeds arrived; `>=`: more of the arm's did; else empty."""
    missing = value["baseline_arrived"] - value["arrived"]
    return "<=" if missing > 0 else ">=" if missing < 0 else ""


def _cell(value: dict[str, Any] | None) -> str:
    """`<=`: seeds of the arm did not arrive; `>=`: more of the baseline's did not."""
    if value is None:
        return "-"
    if not value["arrived"] and not value["baseline_arrived"]:
        return "none arrived"
    speed = f"{bound(value)}{value['estimate']:.2f}x"
    return speed if value["low"] is None else f"{speed} [{value['low']:.2f}, {value['high']:.2f}]"
