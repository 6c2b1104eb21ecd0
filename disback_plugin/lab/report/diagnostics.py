"""What the trainer's probe logged at evaluations, as medians over an arm's seeds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from disback_plugin.lab.report.axes import (
    COLOURS,
    FONT_SIZE,
    OTHER_COLOUR,
    STYLES,
    dress,
    log_y,
    new_figure,
)
from disback_plugin.lab.results.runs import Run, read_metrics

Medians = dict[int, float]  # step -> value


def probe_medians(runs: Sequence[Run], key: str) -> dict[str, Medians]:
    """Of each arm that logged `key`, in order of steps; steps without a finite value are absent."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for record in read_metrics(run.folder / "metrics.jsonl"):
            value = record.get(key)
            if record["kind"] == "mismatch" and value is not None:
                values[run.arm][record["step"]].append(value)
    return {
        arm: {step: median(at_step[step]) for step in sorted(at_step)}
        for arm, at_step in values.items()
    }


def arms_figure(
    runs: Sequence[Run], key: str, label: str, floor: float | None = None
) -> Figure | None:
    """A line an arm over the steps, on a log scale; None where no run has logged `key`."""
    figure = new_figure(6.2, 4.2)
    axes = figure.add_subplot()
    drawn = _draw_arms(axes, probe_medians(runs, key))
    if not drawn:
        return None
    if floor is not None and math.isfinite(floor) and floor > 0:
        axes.axhline(floor, color="black", linestyle=":", linewidth=1.2, label="floor")
        drawn.append(floor)
    dress(axes, "training steps", label)
    log_y(axes, drawn)
    axes.legend(fontsize=FONT_SIZE - 1.5, frameon=False)
    return figure


def _draw_arms(axes: Axes, medians: Mapping[str, Medians]) -> list[float]:
    """A line an arm; what is not above 0 has no place on a log scale. Returns what was drawn."""
    drawn: list[float] = []
    for arm, points in medians.items():
        shown = {step: value for step, value in points.items() if value > 0}
        axes.plot(
            list(shown), list(shown.values()), color=COLOURS.get(arm, OTHER_COLOUR),
            linestyle=STYLES.get(arm, "-"), linewidth=1.8, label=arm,
        )  # fmt: skip
        drawn += shown.values()
    return drawn
