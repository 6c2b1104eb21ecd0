"""Mismatch over training (paper, Fig. 4): how well the real score in use knows the student."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from matplotlib.figure import Figure

from disback_plugin.report.axes import COLOURS, FONT_SIZE, OTHER_COLOUR, dress, log_y, new_figure
from disback_plugin.report.runs import Run, read_metrics

CAPTION = (
    "Mismatch over training (paper, Fig. 4): denoising loss of the network in use as real score on "
    "the student's samples, above the least possible and in units of it; median over seeds. "
    "Dotted: the floor, the teacher on as many samples of the data."
)


def mismatch_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps; None where no run has measured it."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    floors = []
    for run in runs:
        for record in read_metrics(run.folder / "metrics.jsonl"):
            value = record.get("disback/mismatch")
            if record["kind"] == "mismatch" and value is not None and value > 0:
                values[run.arm][record["step"]].append(value)
            if record.get("disback/mismatch_floor") is not None:
                floors.append(record["disback/mismatch_floor"])
    if not values:
        return None
    figure = new_figure(6.2, 4.2)
    axes = figure.add_subplot()
    for arm, at_step in values.items():
        steps = sorted(at_step)
        middles = [median(at_step[step]) for step in steps]
        axes.plot(steps, middles, color=COLOURS.get(arm, OTHER_COLOUR), linewidth=1.8, label=arm)
    every = [value for at_step in values.values() for found in at_step.values() for value in found]
    if floors and math.isfinite(fmean(floors)) and fmean(floors) > 0:
        axes.axhline(fmean(floors), color="black", linestyle=":", linewidth=1.2, label="floor")
        every += floors
    dress(axes, "training steps", "mismatch (excess loss)")
    log_y(axes, every)
    axes.legend(fontsize=FONT_SIZE - 1.5, frameon=False)
    return figure
