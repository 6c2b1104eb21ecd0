"""What the trainer's probe logged at evaluations: mismatch, score gap, health of the nodes."""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from matplotlib.figure import Figure

from disback_plugin.lab.report.axes import COLOURS, FONT_SIZE, dress, line_of, log_y, new_figure
from disback_plugin.lab.report.curves import label_switches
from disback_plugin.lab.results.runs import Run

MISMATCH_CAPTION = (
    "Mismatch over training (paper, Fig. 4): denoising loss of the network in use as real score on "
    "the student's samples, above the least possible and in units of it; median over seeds. "
    "Dotted: the floor, the teacher on as many samples of the data."
)
GAP_CAPTION = (
    "Score gap over training: root mean square difference of fake and real score on the student's "
    "samples, as predictions of unit noise; median over seeds. This difference is what moves the "
    "student, but while recording, when it is held still and only the fake score learns."
)
HEALTH_CAPTION = (
    "Health of the nodes while they answer: direction (cosine) and size of the pull on the student "
    "against the teacher's; median over seeds of disback. Cosines near 1: the node pulls as the "
    "teacher does, only weaker; below about 0.4: noise, record more lightly."
)
Medians = dict[int, float]  # step -> value, over an arm's seeds


def mismatch_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps, and the floor; None where no run has measured it."""
    logged = [probe.get("disback/mismatch_floor") for run in runs for probe in run.probes]
    floors = [floor for floor in logged if floor is not None]
    floor = fmean(floors) if floors else None
    return _arms_figure(runs, "disback/mismatch", "mismatch (excess loss)", floor)


def gap_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps; None where no run has measured it."""
    return _arms_figure(runs, "disback/score_gap", "score gap (in units of the noise)")


def health_figure(runs: Sequence[Run]) -> Figure | None:
    """Cosine and size over the steps of the walk; None where no evaluation met a node."""
    cosine = _medians(runs, "disback/health_cosine").get("disback")
    size = _medians(runs, "disback/health_size").get("disback")
    if not cosine or not size:
        return None
    figure = new_figure(6.2, 4.2)
    axes = figure.add_subplot()
    for points, name, style, mark in ((cosine, "cosine", "-", "o"), (size, "size", "--", "s")):
        axes.plot(
            list(points), list(points.values()), color=COLOURS["disback"], linestyle=style,
            linewidth=1.8, marker=mark, markersize=4.5, markerfacecolor="white", label=name,
        )  # fmt: skip
    axes.axhline(1.0, color="black", linestyle=":", linewidth=1.2, label="teacher")
    axes.set_ylim(bottom=min(0.0, *cosine.values()))
    dress(axes, "training steps", "the node's pull against the teacher's")
    label_switches(axes, runs, "steps")
    axes.legend(fontsize=FONT_SIZE - 1.5, frameon=False, handlelength=3.2)
    return figure


def _medians(runs: Sequence[Run], key: str) -> dict[str, Medians]:
    """Of each arm that logged `key`, in order of steps; steps without a finite value are absent."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for probe in run.probes:
            if probe.get(key) is not None:
                values[run.arm][probe["step"]].append(probe[key])
    return {
        arm: {step: median(at_step[step]) for step in sorted(at_step)}
        for arm, at_step in values.items()
    }


def _arms_figure(
    runs: Sequence[Run], key: str, label: str, floor: float | None = None
) -> Figure | None:
    """A line an arm over the steps, on a log scale; None where no run has logged `key`."""
    figure = new_figure(6.2, 4.2)
    axes = figure.add_subplot()
    drawn: list[float] = []
    for arm, points in _medians(runs, key).items():
        # what is not above 0 has no place on a log scale
        shown = {step: value for step, value in points.items() if value > 0}
        axes.plot(list(shown), list(shown.values()), linewidth=1.8, label=arm, **line_of(arm))
        drawn += shown.values()
    if not drawn:
        return None
    if floor is not None and math.isfinite(floor) and floor > 0:
        axes.axhline(floor, color="black", linestyle=":", linewidth=1.2, label="floor")
        drawn.append(floor)
    dress(axes, "training steps", label)
    log_y(axes, drawn)
    axes.legend(fontsize=FONT_SIZE - 1.5, frameon=False)
    return figure
