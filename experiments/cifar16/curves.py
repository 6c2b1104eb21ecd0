"""What docs/training.md shows: runs side by side, their curves and their last samples.

    python experiments/cifar16/curves.py FILE.png NAME=RUN ...

RUN is the folder of one run (OUT/runs/fixed-seed0). Left the distance, then score gap, mismatch
and the student's gradient norm over the steps; below the samples that each run ended with.
"""

import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from safetensors.numpy import load_file

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#000000")
DOTS_PER_INCH = 80
SIDE = 4  # a picture shows SIDE x SIDE samples
Series = list[tuple[int, float]]
PANELS = {
    "fd_classifier": "distance (fd_classifier)",
    "disback/score_gap": "score gap",
    "disback/mismatch": "mismatch",
    "grad_norm": "student's gradient norm",
}


def read(run: Path) -> dict[str, Series]:
    """What metrics.jsonl tells of each panel's number, by step; what is not above 0 left out."""
    series: dict[str, Series] = {name: [] for name in PANELS}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        values = record | record.get("metrics", {})
        for name, points in series.items():
            if (values.get(name) or 0) > 0:
                points.append((record["step"], values[name]))
    return series


def draw(runs: dict[str, Path]) -> Figure:
    """Four panels above, one picture a run below."""
    figure = Figure(figsize=(15, 7.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.5, 1])
    panels = top.subplots(1, len(PANELS))
    pictures = bottom.subplots(1, len(runs), squeeze=False)[0]
    for (name, run), colour, picture in zip(runs.items(), COLOURS, pictures, strict=False):
        series = read(run)
        for axes, (key, label) in zip(panels, PANELS.items(), strict=True):
            axes.semilogy(*zip(*series[key], strict=True), color=colour, label=name)
            axes.set_xlabel("training steps")
            axes.set_ylabel(label)
        last = max((run / "samples").glob("step_*.safetensors"))
        picture.imshow(grid(load_file(last)["samples"]))
        picture.set_axis_off()
        picture.set_title(name)
    panels[0].legend(frameon=False)
    return figure


def grid(images: np.ndarray) -> np.ndarray:
    """The first images (n, 3, H, W) in [-1, 1] as one picture in [0, 1]."""
    rows = images[: SIDE * SIDE].reshape(SIDE, SIDE, *images.shape[1:])
    height, width = (SIDE * size for size in images.shape[2:])
    picture = rows.transpose(0, 3, 1, 4, 2).reshape(height, width, -1)
    return (picture.clip(-1, 1) + 1) / 2


def main() -> None:
    """Write the figure."""
    file, *named = sys.argv[1:]
    runs = dict(text.split("=", 1) for text in named)
    figure = draw({name: Path(run) for name, run in runs.items()})
    figure.savefig(file, dpi=DOTS_PER_INCH, metadata={"Software": None})


if __name__ == "__main__":
    main()
