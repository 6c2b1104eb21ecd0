"""Convergence curves over seeds, in network passes, steps or seconds."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from disback_plugin.lab.report.axes import (
    COLOURS,
    FONT_SIZE,
    GREY,
    OTHER_COLOUR,
    STYLES,
    dress,
    log_y,
    new_figure,
)
from disback_plugin.lab.report.formatting import metric_title, number
from disback_plugin.lab.results.direction import higher_is_better
from disback_plugin.lab.results.runs import Mark, Run
from disback_plugin.lab.results.thresholds import CurvePoint

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
    shown = [run for run in runs if _finite(run.curve(metric))]
    if not shown:
        axes.text(0.5, 0.5, f"no {metric} yet", ha="center", transform=axes.transAxes)
        return figure
    for arm in dict.fromkeys(run.arm for run in shown):
        _draw_arm(axes, [run for run in shown if run.arm == arm], metric, unit)
    dress(axes, AXIS[unit], metric_title(metric, higher_is_better(metric)))
    values = [p.value for run in shown for p in _finite(run.curve(metric))]
    if reference is not None and math.isfinite(reference):
        axes.axhline(reference, color="black", linestyle=":", linewidth=1.3, label="teacher")
        values.append(reference)
    if not higher_is_better(metric) and min(values) > 0:
        log_y(axes, values)
    axes.set_xlim(0, max(_x(run.curve(metric)[-1], unit) for run in shown) or 1.0)
    _draw_recording(axes, shown, unit)
    label_switches(axes, shown, unit)
    _draw_thresholds(axes, thresholds)
    figure.legend(
        loc="outside lower center", ncols=5, fontsize=FONT_SIZE - 1.5, frameon=False,
        handlelength=2.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _draw_arm(axes: Axes, runs: Sequence[Run], metric: str, unit: Unit) -> None:
    colour, style = COLOURS.get(runs[0].arm, OTHER_COLOUR), STYLES.get(runs[0].arm, "-")
    at_step: dict[int, list[CurvePoint]] = defaultdict(list)
    for run in runs:
        points = _finite(run.curve(metric))
        axes.plot(
            [_x(p, unit) for p in points], [p.value for p in points],
            color=colour, linewidth=0.6, alpha=0.45, linestyle="-" if run.complete else ":",
        )  # fmt: skip
    # runs that stopped early, and steps which one seed lacks, would make the median jump
    whole = [run for run in runs if run.complete] or runs
    for run in whole:
        for point in _finite(run.curve(metric)):
            at_step[point.step].append(point)
    shared = [at_step[step] for step in sorted(at_step) if len(at_step[step]) == len(whole)]
    x = [fmean(_x(p, unit) for p in points) for points in shared]
    lows = [min(p.value for p in points) for points in shared]
    highs = [max(p.value for p in points) for points in shared]
    axes.fill_between(x, lows, highs, color=colour, alpha=0.14, linewidth=0)
    middles = [median(p.value for p in points) for points in shared]
    axes.plot(x, middles, color=colour, linestyle=style, linewidth=2.1, label=runs[0].arm)


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


def _finite(curve: Sequence[CurvePoint]) -> list[CurvePoint]:
    return [point for point in curve if math.isfinite(point.value)]


def _x(point: CurvePoint | Mark, unit: Unit) -> float:
    return {"passes": point.passes, "steps": point.step, "seconds": point.seconds}[unit]
