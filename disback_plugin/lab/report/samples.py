"""Samples over training: images as grids, 2-D points as scatter over the data."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from safetensors.numpy import load_file

from disback_plugin.errors import RunError
from disback_plugin.lab.report.axes import FONT_SIZE, GREY, colour_of, new_figure, without_axes
from disback_plugin.lab.results.run_file import REFERENCE, check_teacher
from disback_plugin.lab.results.runs import Run
from disback_plugin.sealed import damage_of

NUM_TILES = 36
NUM_POINTS = 1500
# shares of the training at which samples are shown: more of the start, where arms differ most
SHOWN_AT = (0.0, 0.12, 0.25, 0.5, 1.0)

Samples = np.ndarray
Window = tuple[np.ndarray, np.ndarray]  # lower left and upper right corner


def reference_samples(out: Path) -> dict[str, Samples]:
    """{"data", "samples"} of OUT/teacher/samples.safetensors; empty where there is none."""
    file = out / "teacher" / "samples.safetensors"
    if not file.exists():
        return {}
    if (file.parent / REFERENCE).exists():
        check_teacher(file.parent, file.name)
    return _load(file)


def run_samples(run: Run) -> dict[int, Samples]:
    """Samples of a run at up to five steps, the first and the last among them."""
    files = {
        int(file.stem.removeprefix("step_")): file
        for file in sorted((run.folder / "samples").glob("step_*.safetensors"))
    }
    if not files:
        return {}
    wanted = [share * max(files) for share in SHOWN_AT]
    steps = sorted({min(files, key=lambda step: abs(step - goal)) for goal in wanted})
    return {step: samples for step in steps for samples in _load(files[step]).values()}


def reference_figure(reference: Mapping[str, Samples]) -> Figure | None:
    """Real data beside the teacher's many-step samples; None where they cannot be drawn."""
    panels = {"real data": reference.get("data"), "teacher, many steps": reference.get("samples")}
    drawn = {title: s for title, s in panels.items() if s is not None and drawable(s)}
    if not drawn:
        return None
    figure = new_figure(2.5 * len(drawn), 2.85)
    data = reference.get("data")
    window = _window(list(drawn.values()), data)
    for index, (title, samples) in enumerate(drawn.items()):
        axes = figure.add_subplot(1, len(drawn), index + 1)
        _draw(axes, samples, data, GREY if title == "real data" else "black", window)
        without_axes(axes, title)
    return figure


def training_figure(runs: Sequence[Run], data: Samples | None) -> Figure | None:
    """A row an arm (each run given is one), a column a step; None where nothing can be drawn."""
    rows = {run.arm: run_samples(run) for run in runs}
    rows = {arm: s for arm, s in rows.items() if s and all(drawable(x) for x in s.values())}
    if not rows:
        return None
    columns = max(len(samples) for samples in rows.values())
    figure = new_figure(0.35 + 1.75 * columns, 2.05 * len(rows))
    window = _window([tensor for samples in rows.values() for tensor in samples.values()], data)
    for row, (arm, samples) in enumerate(rows.items()):
        for column, (step, tensor) in enumerate(samples.items()):
            axes = figure.add_subplot(len(rows), columns, row * columns + column + 1)
            _draw(axes, tensor, data, colour_of(arm), window)
            without_axes(axes, "initial student" if step == 0 else f"step {step:,}")
            if column == 0:
                axes.set_ylabel(
                    arm, fontsize=FONT_SIZE + 1, color=colour_of(arm), fontweight="bold"
                )
    return figure


def drawable(samples: Samples) -> bool:
    """Images (n, c, h, w), or points (n, 2)."""
    return samples.ndim == 4 or (samples.ndim == 2 and samples.shape[1] == 2)


def _draw(axes: Axes, samples: Samples, data: Samples | None, colour: str, window: Window) -> None:
    if samples.ndim == 4:
        picture = image_grid(samples[:NUM_TILES])
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        return
    if data is not None:
        _scatter(axes, data, "#c4c4c4")
    _scatter(axes, samples, colour)
    low, high = window
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    outside = 1 - ((samples >= low) & (samples <= high)).all(axis=1).mean()
    if outside > 0.005:
        axes.text(
            0.97, 0.03, f"{outside:.0%} outside", transform=axes.transAxes,
            ha="right", va="bottom", fontsize=FONT_SIZE - 2.5, color="black",
        )  # fmt: skip


def _scatter(axes: Axes, points: Samples, colour: str) -> None:
    x, y = points[:NUM_POINTS].T
    axes.scatter(x, y, s=2.0, color=colour, linewidths=0, alpha=0.7)


def _window(samples: Sequence[Samples], data: Samples | None) -> Window:
    """One square window for all panels: the data, and what of the samples is not too far off."""
    if samples[0].ndim == 4:
        return np.zeros(2), np.ones(2)  # images fill their panel
    frame = samples[-1] if data is None else data
    low, high = frame.min(axis=0), frame.max(axis=0)
    extent = (high - low).max()
    points = np.nan_to_num(np.concatenate(samples), nan=0.0, posinf=0.0, neginf=0.0)
    low = np.clip(np.quantile(points, 0.01, axis=0), low - 2 * extent, low)
    high = np.clip(np.quantile(points, 0.99, axis=0), high, high + 2 * extent)
    centre, half = (low + high) / 2, 0.56 * (high - low).max()
    return centre - half, centre + half


def image_grid(images: Samples) -> Samples:
    """(n, c, h, w) images in [-1, 1] as one picture in [0, 1], (H, W) or (H, W, 3), white gaps.

    A pixel that is not a number is drawn black.
    """
    n, c, h, w = images.shape
    side = math.ceil(math.sqrt(n))
    gap = max(1, h // 16)
    colours = 1 if c == 1 else 3
    picture = np.full((side * (h + gap) - gap, side * (w + gap) - gap, colours), 1.0)
    unit = np.clip(np.nan_to_num((images[:, :colours].astype(np.float64) + 1) / 2, nan=0.0), 0, 1)
    for index, image in enumerate(unit):
        top, left = (index // side) * (h + gap), (index % side) * (w + gap)
        picture[top : top + h, left : left + w] = image.transpose(1, 2, 0)
    return picture[..., 0] if colours == 1 else picture


def _load(file: Path) -> dict[str, Samples]:
    with damage_of(file, RunError, "delete it, the report does without"):
        found = {name: array.astype(np.float32) for name, array in load_file(file).items()}
        if "samples" not in found or not set(found) <= {"samples", "data"}:
            raise ValueError(f"it should hold samples, and holds {', '.join(found) or 'nothing'}")
        return found
