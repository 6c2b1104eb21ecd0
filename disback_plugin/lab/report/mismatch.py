"""Mismatch over training (paper, Fig. 4): how well the real score in use knows the student."""

from collections.abc import Sequence
from statistics import fmean

from matplotlib.figure import Figure

from disback_plugin.lab.report.diagnostics import arms_figure
from disback_plugin.lab.results.runs import Run, read_metrics

CAPTION = (
    "Mismatch over training (paper, Fig. 4): denoising loss of the network in use as real score on "
    "the student's samples, above the least possible and in units of it; median over seeds. "
    "Dotted: the floor, the teacher on as many samples of the data."
)


def mismatch_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps; None where no run has measured it."""
    floors = [
        record["disback/mismatch_floor"]
        for run in runs
        for record in read_metrics(run.folder / "metrics.jsonl")
        if record.get("disback/mismatch_floor") is not None
    ]
    floor = fmean(floors) if floors else None
    return arms_figure(runs, "disback/mismatch", "mismatch (excess loss)", floor)
