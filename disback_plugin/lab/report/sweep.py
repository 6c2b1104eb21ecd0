"""A comparison drawn: curves at one learning rate, and cost to a threshold over learning rates."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median

import numpy as np
from matplotlib.axes import Axes

from disback_plugin.lab.report.axes import dress, log_y, new_figure, save
from disback_plugin.lab.results.curves import Curve, by_arm

COLOURS = {
    "fixed": "#D55E00", "warm": "#009E73", "disback": "#0072B2", "adaptive": "#000000",
    "path": "#CC79A7", "lr-warmup": "#E69F00",
}  # fmt: skip


def draw(
    curves: Sequence[Curve], student_lr: float, threshold: float, metric: str, file: Path
) -> None:
    """Left: medians over seeds at `student_lr`; right: mean passes to `threshold` by rate."""
    groups = by_arm(curves)
    figure = new_figure(9.6, 4.0)
    left, right = figure.subplots(1, 2)
    for (arm, lr), group in groups.items():
        if lr == student_lr:
            _draw_curve(left, arm, group)
    left.axhline(threshold, color="#6b6b6b", linewidth=0.7, linestyle=(0, (1, 3)))
    dress(left, "network passes", metric)
    shown = [curve for (_, lr), group in groups.items() if lr == student_lr for curve in group]
    values = [p.value for curve in shown for p in curve.points if math.isfinite(p.value)]
    if min(values) > 0:
        log_y(left, values)
    left.set_title(f"student_lr {student_lr:g}, median and quartiles", fontsize=10)
    left.legend(fontsize=8, frameon=False)
    for arm in dict.fromkeys(arm for arm, _ in groups):
        _draw_sweep(right, arm, groups, threshold)
    dress(right, "student_lr", f"network passes to {threshold:g}")
    right.set_xscale("log")
    rates = sorted({lr for _, lr in groups})
    right.set_xticks(rates, [f"{rate:g}" for rate in rates])
    right.minorticks_off()
    right.set_title("hollow: seeds that never arrived count with their budget", fontsize=10)
    save(figure, file)


def _draw_curve(axes: Axes, arm: str, group: Sequence[Curve]) -> None:
    shared = list(zip(*(curve.points for curve in group), strict=True))
    passes = [fmean(point.passes for point in points) for points in shared]
    values = [[point.value for point in points] for points in shared]
    colour = COLOURS.get(arm, "#6b6b6b")
    low, high = np.quantile(values, 0.25, axis=1), np.quantile(values, 0.75, axis=1)
    axes.fill_between(passes, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.plot(passes, [median(row) for row in values], color=colour, linewidth=1.8, label=arm)


def _draw_sweep(
    axes: Axes, arm: str, groups: dict[tuple[str, float], list[Curve]], threshold: float
) -> None:
    rates = sorted(lr for name, lr in groups if name == arm)
    costs, whole = [], []
    for lr in rates:
        reached = [curve.passes_to(threshold) for curve in groups[arm, lr]]
        whole.append(all(cost is not None for cost in reached))
        budgets = [curve.points[-1].passes for curve in groups[arm, lr]]
        pairs = zip(reached, budgets, strict=True)
        costs.append(fmean(budget if cost is None else cost for cost, budget in pairs))
    colour = COLOURS.get(arm, "#6b6b6b")
    axes.plot(rates, costs, color=colour, linewidth=1.4, label=arm)
    for lr, cost, filled in zip(rates, costs, whole, strict=True):
        face = colour if filled else "white"
        axes.plot([lr], [cost], "o", color=colour, markerfacecolor=face, markersize=6)
