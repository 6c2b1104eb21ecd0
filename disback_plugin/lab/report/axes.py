"""Figures without pyplot's global state: canvas, colours, fonts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from disback_plugin.files import naming

# Okabe and Ito's palette: told apart with colour-blind eyes; line styles tell them apart in grey
COLOURS = {
    "disback": "#0072B2", "fixed": "#D55E00", "warm": "#009E73", "adaptive": "#000000",
    "path": "#CC79A7", "lr-warmup": "#E69F00",
}  # fmt: skip
STYLES = {"fixed": (0, (5, 1.5)), "warm": (0, (5, 1.5, 1, 1.5))}
GREY = "#6b6b6b"
FONT_SIZE = 11.5
DOTS_PER_INCH = 160


def colour_of(arm: str) -> str:
    """The arm's own; grey for one that is not known here, as of an earlier version."""
    return COLOURS.get(arm, GREY)


def line_of(arm: str) -> dict[str, Any]:
    """Colour and style of an arm's line, as arguments of `Axes.plot`."""
    return {"color": colour_of(arm), "linestyle": STYLES.get(arm, "-")}


def new_figure(width: float, height: float) -> Figure:
    """A white Agg figure of that many inches, laid out so that labels do not overlap."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, file: Path) -> int:
    """Write a PNG; returns the width in CSS pixels at which its fonts read like the page's.

    The software's name is left out, so that equal numbers give equal bytes.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with naming(file):
        figure.savefig(file, dpi=DOTS_PER_INCH, format="png", metadata={"Software": None})
    return round(figure.get_figwidth() * 100)


def dress(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, quiet frame and grid."""
    axes.set_xlabel(x_label, fontsize=FONT_SIZE)
    axes.set_ylabel(y_label, fontsize=FONT_SIZE)
    axes.tick_params(labelsize=FONT_SIZE - 1.5)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def log_y(axes: Axes, values: Sequence[float]) -> None:
    """Log scale with plain numbers, and enough of them where the values span less than a decade."""
    axes.set_yscale("log")
    ratio = max(values) / min(values)
    if ratio < 2.5:
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        few, some, many = (1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        subs = many if ratio < 8 else some if ratio < 3000 else few
        axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def without_axes(axes: Axes, title: str) -> None:
    """A panel that is a picture: thin frame, no ticks."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#bdbdbd")
    axes.set_title(title, fontsize=FONT_SIZE - 1, pad=4)
