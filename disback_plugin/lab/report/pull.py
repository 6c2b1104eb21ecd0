"""What pulls the student over training: the score gap, and a node's pull against the teacher's."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from disback_plugin.lab.report.axes import COLOURS, FONT_SIZE, dress, new_figure
from disback_plugin.lab.report.curves import label_switches
from disback_plugin.lab.report.diagnostics import arms_figure, probe_medians
from disback_plugin.lab.results.runs import Run

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


def gap_figure(runs: Sequence[Run]) -> Figure | None:
    """A line an arm over the steps; None where no run has measured it."""
    return arms_figure(runs, "disback/score_gap", "score gap (in units of the noise)")


def health_figure(runs: Sequence[Run]) -> Figure | None:
    """Cosine and size over the steps of the walk; None where no evaluation met a node."""
    cosine = probe_medians(runs, "disback/health_cosine").get("disback")
    size = probe_medians(runs, "disback/health_size").get("disback")
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
