"""Mismatch over training (paper, Fig. 4): how well the real score in use knows the student."""

import math
from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure

from disback_plugin.report.axes import FONT_SIZE, dress, log_y, new_figure
from disback_plugin.report.probe import draw_arms, probe_medians
from disback_plugin.report.runs import Run, read_metrics

CAPTION = (
    "Mismatch over training (paper, Fig. 4): denoising loss of the network in use as real score on "
    "the student's samples, above the least possible and in units of it; median over seeds. "
    "Dotted: the floor, the teacher on as many samples of the data."
)


def mismatch_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps; None where no run has measured it."""
    figure = new_figure(6.2, 4.2)
    axes = figure.add_subplot()
    drawn = draw_arms(axes, probe_medians(runs, "disback/mismatch"))
    if not drawn:
        return None
    floors = [
        record["disback/mismatch_floor"]
        for run in runs
        for record in read_metrics(run.folder / "metrics.jsonl")
        if record.get("disback/mismatch_floor") is not None
    ]
    if floors and math.isfinite(fmean(floors)) and fmean(floors) > 0:
        axes.axhline(fmean(floors), color="black", linestyle=":", linewidth=1.2, label="floor")
        drawn.append(fmean(floors))
    dress(axes, "training steps", "mismatch (excess loss)")
    log_y(axes, drawn)
    axes.legend(fontsize=FONT_SIZE - 1.5, frameon=False)
    return figure
