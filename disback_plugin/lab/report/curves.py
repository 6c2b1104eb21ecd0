"""Convergence curves over seeds: of runs, and of a comparison beside its costs by learning rate."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from disback_plugin.lab.report.axes import (
    COLOURS,
    FONT_SIZE,
    GREY,
    colour_of,
    dress,
    line_of,
    log_y,
    new_figure,
    save,
)
from disback_plugin.lab.report.formatting import metric_title, number
from disback_plugin.lab.results.curves import (
    Curve,
    CurvePoint,
    at_shared_steps,
    by_arm,
    higher_is_better,
)
from disback_plugin.lab.results.runs import Mark, Run

Row = Mapping[str, Any]
Unit = Literal["passes", "steps", "seconds"]
AXIS: dict[Unit, str] = {
    "passes": "network passes a sample",
    "steps": "training steps",
    "seconds": "training seconds",
}


def convergence_figure(
    runs: Sequence[Run],
    metric: str,
    unit: Unit,
    thresholds: Sequence[float] = (),
    reference: float | None = None,
) -> Figure:
    """Median over an arm's complete runs, band from worst to best, each seed a thin line.

    Marks: recording shaded, DisBack's node switches as vertical lines, thresholds as ticks on the
    right, the teacher's own value dotted. The axis of a distance is logarithmic.
    """
    figure = new_figure(6.2, 4.6)
    axes = figure.add_subplot()
    shown = [run for run in runs if run.curve(metric).finite.points]
    if not shown:
        axes.text(0.5, 0.5, f"no {metric} yet", ha="center", transform=axes.transAxes)
        return figure
    for arm in dict.fromkeys(run.arm for run in shown):
        _draw_arm(axes, [run for run in shown if run.arm == arm], metric, unit)
    dress(axes, AXIS[unit], metric_title(metric, higher_is_better(metric)))
    values = [p.value for run in shown for p in run.curve(metric).finite.points]
    if reference is not None and math.isfinite(reference):
        axes.axhline(reference, color="black", linestyle=":", linewidth=1.3, label="teacher")
        values.append(reference)
    if not higher_is_better(metric) and min(values) > 0:
        log_y(axes, values)
    axes.set_xlim(0, max(_x(run.curve(metric).end, unit) for run in shown) or 1.0)
    _draw_recording(axes, shown, unit)
    label_switches(axes, shown, unit)
    _draw_thresholds(axes, thresholds)
    figure.legend(
        loc="outside lower center", ncols=5, fontsize=FONT_SIZE - 1.5, frameon=False,
        handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _draw_arm(axes: Axes, runs: Sequence[Run], metric: str, unit: Unit) -> None:
    arm = runs[0].arm
    colour = colour_of(arm)
    for run in runs:
        points = run.curve(metric).finite.points
        axes.plot(
            [_x(p, unit) for p in points], [p.value for p in points],
            color=colour, linewidth=0.6, alpha=0.45, linestyle="-" if run.complete else ":",
        )  # fmt: skip
    # runs that stopped early, and steps which one seed lacks, would make the median jump
    whole = [run for run in runs if run.complete] or runs
    shared = at_shared_steps([run.curve(metric).finite for run in whole])
    x = [fmean(_x(p, unit) for p in points) for points in shared]
    lows = [min(p.value for p in points) for points in shared]
    highs = [max(p.value for p in points) for points in shared]
    axes.fill_between(x, lows, highs, color=colour, alpha=0.14, linewidth=0)
    middles = [median(p.value for p in points) for points in shared]
    axes.plot(x, middles, linewidth=2.1, label=arm, **line_of(arm))


def _draw_recording(axes: Axes, runs: Sequence[Run], unit: Unit) -> None:
    """Each run's own: automatic recording may end at different steps."""
    spans = {tuple(_x(mark, unit) for mark in run.recording) for run in runs if run.recording}
    label, alpha = "recording", max(0.22 / max(len(spans), 1), 0.06)
    for start, end in sorted(spans):
        axes.axvspan(start, end, color="#f0e442", alpha=alpha, linewidth=0, label=label)
        label = "_nolegend_"


def label_switches(axes: Axes, runs: Sequence[Run], unit: Unit) -> None:
    """A line a switch, at the mean over DisBack's seeds; labels too close to a later one go."""
    at: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for mark in run.switches if run.arm == "disback" else ():
            at[mark.node if mark.node is not None else 0].append(_x(mark, unit))
    switches = sorted(((fmean(xs), node) for node, xs in at.items()), reverse=True)
    width = axes.get_xlim()[1] or 1.0
    last_label = math.inf
    for x, node in switches:
        if x > width:  # after the last evaluation of a run still going on
            continue
        axes.axvline(x, color=COLOURS["disback"], linewidth=0.8, alpha=0.55, zorder=1)
        if last_label - x < 0.035 * width:
            continue
        last_label = x
        axes.annotate(
            "teacher" if node == 0 else f"node {node}", (x, 1.0), (0, 3),
            xycoords=("data", "axes fraction"), textcoords="offset points", rotation=90,
            ha="center", va="bottom", fontsize=FONT_SIZE - 2.5, color=COLOURS["disback"],
        )  # fmt: skip


def _draw_thresholds(axes: Axes, thresholds: Sequence[float]) -> None:
    low, high = axes.get_ylim()
    for threshold in thresholds:
        if not low <= threshold <= high:
            continue
        axes.axhline(threshold, color=GREY, linewidth=0.6, alpha=0.7, linestyle=(0, (1, 3)))
        axes.annotate(
            number(threshold), (1.0, threshold), (4, 0),
            xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="left", va="center", fontsize=FONT_SIZE - 2.5, color=GREY,
        )  # fmt: skip


def _x(point: CurvePoint | Mark, unit: Unit) -> float:
    return {"passes": point.passes, "steps": point.step, "seconds": point.seconds}[unit]


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
