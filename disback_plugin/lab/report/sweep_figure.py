"""A comparison drawn: curves at one learning rate, and cost to a threshold over learning rates."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from disback_plugin.lab.report.axes import GREY, colour_of, dress, line_of, log_y, new_figure, save
from disback_plugin.lab.results.curves import Curve, at_shared_steps, by_arm

Row = Mapping[str, Any]


def draw_sweep(
    curves: Sequence[Curve],
    summary: Mapping[str, Any],
    student_lr: float,
    threshold: float,
    file: Path,
) -> None:
    """Left: medians over seeds at `student_lr`; right: mean passes to `threshold` by rate."""
    figure = new_figure(9.6, 4.0)
    left, right = figure.subplots(1, 2)
    _draw_curves(left, [curve for curve in curves if curve.student_lr == student_lr])
    left.axhline(threshold, color=GREY, linewidth=0.7, linestyle=(0, (1, 3)))
    left.set_title(f"student_lr {student_lr:g}, median and quartiles", fontsize=10)
    left.legend(fontsize=8, frameon=False)
    _draw_costs(right, summary["arms"], threshold)
    right.set_title("hollow: seeds that never arrived count with their budget", fontsize=10)
    save(figure, file)


def _draw_curves(axes: Axes, curves: Sequence[Curve]) -> None:
    for (arm, _), group in by_arm(curves).items():
        shared = at_shared_steps(group)
        passes = [fmean(point.passes for point in points) for points in shared]
        values = [[point.value for point in points] for points in shared]
        low, high = np.quantile(values, 0.25, axis=1), np.quantile(values, 0.75, axis=1)
        axes.fill_between(passes, low, high, color=colour_of(arm), alpha=0.1, linewidth=0)
        middles = [median(row) for row in values]
        axes.plot(passes, middles, linewidth=1.8, label=arm, **line_of(arm))
    dress(axes, "network passes", curves[0].metric)
    finite = [p.value for curve in curves for p in curve.points if math.isfinite(p.value)]
    if min(finite, default=0.0) > 0:
        log_y(axes, finite)


def _draw_costs(axes: Axes, rows: Sequence[Row], threshold: float) -> None:
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = sorted((row for row in rows if row["arm"] == arm), key=lambda row: row["student_lr"])
        rates = [row["student_lr"] for row in own]
        goals = [next(g for g in row["thresholds"] if g["threshold"] == threshold) for row in own]
        costs = [goal["passes"] for goal in goals]
        axes.plot(rates, costs, linewidth=1.4, label=arm, **line_of(arm))
        for row, goal in zip(own, goals, strict=True):
            face = colour_of(arm) if goal["arrived"] == row["num_seeds"] else "white"
            axes.plot(
                [row["student_lr"]], [goal["passes"]], "o",
                color=colour_of(arm), markerfacecolor=face, markersize=6,
            )  # fmt: skip
    dress(axes, "student_lr", f"network passes to {threshold:g}")
    axes.set_xscale("log")
    rates = sorted({row["student_lr"] for row in rows})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
