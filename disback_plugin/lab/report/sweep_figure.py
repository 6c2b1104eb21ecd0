"""A comparison as one figure: curves at one learning rate, and costs by learning rate."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from disback_plugin.lab.report.chart import HEIGHT, LEGEND, WIDTH, Chart, Line, alone, legend, text
from disback_plugin.lab.report.curves import style_of
from disback_plugin.lab.report.formatting import number
from disback_plugin.lab.report.scales import Scale, around
from disback_plugin.lab.results.curves import Curve, at_shared_steps, by_arm

HEAD = 26  # above the charts: what they are


def sweep_figure(
    curves: Sequence[Curve], summary: Mapping[str, Any], student_lr: float, threshold: float
) -> str:
    """An SVG file. Left: medians over seeds at `student_lr`; right: mean passes to `threshold`."""
    left = [curve for curve in curves if curve.student_lr == student_lr]
    charts = (
        (f"student_lr {student_lr:g}, median and quartiles", _curves(left, threshold)),
        ("hollow: seeds that never arrived count with their budget", _costs(summary, threshold)),
    )
    parts = []
    for column, (title, chart) in enumerate(charts):
        x = column * WIDTH
        parts.append(text(x + WIDTH / 2, 17, title, "middle", "label"))
        place = f'x="{x}" y="{HEAD}" width="{WIDTH}" height="{HEIGHT}"'
        parts.append(f"<svg {place}>{chart.inner()}</svg>")
    names = dict.fromkeys(curve.arm for curve in curves)
    parts.append(legend({style_of(arm): arm for arm in names}, HEAD + HEIGHT + 16))
    label = f"{curves[0].metric} by arm"
    return alone("".join(parts), 2 * WIDTH, HEAD + HEIGHT + LEGEND, label)


def _curves(curves: Sequence[Curve], threshold: float) -> Chart:
    lines = [_line(arm, group) for (arm, _), group in by_arm(curves).items()]
    values = [p.value for curve in curves for p in curve.points if math.isfinite(p.value)]
    end = max((line.points[-1][0] for line in lines if line.points), default=1.0)
    return Chart(
        label=curves[0].metric,
        x=Scale(kind="linear", low=0.0, high=end or 1.0),
        y=around(values or [1.0], log=min(values, default=0.0) > 0),
        x_label=f"{curves[0].metric} over network passes",
        lines=lines,
        levels={threshold: number(threshold)},
    )


def _line(arm: str, curves: Sequence[Curve]) -> Line:
    rows = []
    for points in at_shared_steps(curves):
        values = [point.value for point in points]
        if all(map(math.isfinite, values)):
            low, high = np.quantile(values, (0.25, 0.75))
            passes = fmean(point.passes for point in points)
            rows.append((passes, median(values), float(low), float(high)))
    return Line(
        style=style_of(arm),
        points=[(x, middle) for x, middle, _, _ in rows],
        band=([(x, high) for x, _, _, high in rows], [(x, low) for x, _, low, _ in rows]),
    )


def _costs(summary: Mapping[str, Any], threshold: float) -> Chart:
    rows = sorted(summary["arms"], key=lambda row: row["student_lr"])
    lines = []
    for arm in dict.fromkeys(row["arm"] for row in rows):
        own = [row for row in rows if row["arm"] == arm]
        goals = [next(g for g in row["thresholds"] if g["threshold"] == threshold) for row in own]
        pairs = list(zip(own, goals, strict=True))
        lines.append(
            Line(
                style=style_of(arm),
                points=[(row["student_lr"], goal["passes"]) for row, goal in pairs],
                markers=[goal["arrived"] == row["num_seeds"] for row, goal in pairs],
            )
        )
    rates = [row["student_lr"] for row in rows]
    return Chart(
        label="costs",
        x=around(rates, log=True),
        y=around([0.0, *(y for line in lines for _, y in line.points)], log=False),
        x_label=f"network passes to {threshold:g} by student_lr",
        lines=lines,
        levels={},
        x_names={rate: f"{rate:g}" for rate in rates},
    )
