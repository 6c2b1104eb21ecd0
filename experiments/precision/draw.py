"""The figure of experiments/precision: error in the answers over error in the weights.

python experiments/precision/draw.py [experiments/precision]
"""

import json
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"nearest": "#0072B2", "stochastic": "#D55E00"}
MARKERS = ("o", "s", "^", "D", "v")


def draw(folder: Path) -> Path:
    """Left against the exact teacher, right against the rounded one; returns the file."""
    rows = json.loads((folder / "results.json").read_text())
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, suffix, title in (
        (left, "", "against the exact teacher"),
        (right, "_to_rounded", "against the rounded teacher"),
    ):
        _panel(axes, rows, suffix)
        axes.set(title=title, xlabel="error in the weights / change of the weights")
    left.set_ylabel("error in the answers / change of the answers")
    right.legend(fontsize=7)
    file = folder / "precision.png"
    figure.savefig(file, dpi=80)
    return file


def _panel(axes: Axes, rows: list[dict], suffix: str) -> None:
    names = list(dict.fromkeys(row["network"] for row in rows))
    for name, marker in zip(names, MARKERS, strict=False):
        own = [row for row in rows if row["network"] == name]
        for kind, colour in COLOURS.items():
            x, y = ([row[key] for row in own] for key in (f"weights_{kind}", f"{kind}{suffix}"))
            axes.loglog(x, y, marker, color=colour, markersize=4, label=f"{name}, {kind}")
    axes.axhline(1, color="0.7", linewidth=0.8)
    axes.axline((1, 1), (10, 10), color="0.7", linewidth=0.8, linestyle=":")


if __name__ == "__main__":
    print(draw(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)))
