"""Samples of data, teacher and runs, as pictures for a page: grids of images, clouds of points."""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from disback_plugin.errors import RunError
from disback_plugin.lab.results.run_file import REFERENCE, check_teacher
from disback_plugin.lab.results.runs import Run
from disback_plugin.sealed import damage_of

NUM_POINTS = 500
GRID, TILE = 320, 96  # most pixels of a grid's side, and of an image in it
LOSSLESS = 25_000  # pixels of a grid up to which it is a PNG, else a JPEG
BOX = 300  # side of a cloud's frame, in whole units
GREY = 0.5  # between images where a picture cannot let the page shine through

Samples = np.ndarray
Window = tuple[np.ndarray, np.ndarray]  # lower left and upper right corner


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Images side by side. uri: their PNG or JPEG. coarse: pixels are so few that they show."""

    uri: str
    coarse: bool

    def html(self, about: str) -> str:
        """For a page."""
        style = "grid-of-images coarse" if self.coarse else "grid-of-images"
        return f'<img class="{style}" src="{self.uri}" alt="{escape(about)}">'

    def svg(self) -> str:
        """The inside of an <svg viewBox="0 0 BOX BOX">."""
        style = ' style="image-rendering:pixelated"' if self.coarse else ""
        return f'<image width="{BOX}" height="{BOX}" href="{self.uri}"{style}/>'

    @property
    def bytes(self) -> int:
        return len(self.uri)


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points in the plane within a frame. ways: CSS classes and path data. outside: a share."""

    ways: Sequence[tuple[str, str]]
    outside: float

    def html(self, about: str) -> str:
        """For a page."""
        frame = f'class="cloud" viewBox="0 0 {BOX} {BOX}" role="img" aria-label="{escape(about)}"'
        return f"<svg {frame}>{self.svg()}</svg>"

    def svg(self) -> str:
        """The inside of an <svg viewBox="0 0 BOX BOX">."""
        return "".join(f'<path class="points {style}" d="{way}"/>' for style, way in self.ways)

    @property
    def bytes(self) -> int:
        return sum(len(way) for _, way in self.ways)


Picture = Grid | Cloud


def reference_samples(out: Path) -> dict[str, Samples]:
    """{"data", "samples"} of OUT/teacher/samples.safetensors; empty where there is none."""
    file = out / "teacher" / "samples.safetensors"
    if not file.exists():
        return {}
    if (file.parent / REFERENCE).exists():
        check_teacher(file.parent, file.name)
    return _load(file)


def sample_files(run: Run) -> dict[int, Path]:
    """The run's files of samples by step, in order."""
    files = (run.folder / "samples").glob("step_*.safetensors")
    at_step = {int(file.stem.removeprefix("step_")): file for file in files}
    return {step: at_step[step] for step in sorted(at_step)}


def load_samples(file: Path) -> Samples:
    """The samples of a run at one step."""
    return _load(file)["samples"]


def steps_shown(steps: Iterable[int], shares: Sequence[float]) -> list[int]:
    """Those nearest to the given shares of the training; each once, in order."""
    known = list(steps)
    goals = [share * max(known) for share in shares]
    return sorted({min(known, key=lambda step: abs(step - goal)) for goal in goals})


def drawable(samples: Samples) -> bool:
    """Images (n, c, h, w), or points (n, 2)."""
    return samples.ndim == 4 or (samples.ndim == 2 and samples.shape[1] == 2)


def picture(samples: Samples, window: Window, data: Samples | None = None) -> Picture:
    """Images as a grid; points over grey ones of `data`, within `window`."""
    if samples.ndim == 4:
        return _grid(samples)
    inside = ((samples >= window[0]) & (samples <= window[1])).all(axis=1)
    ways = [("data", _way(data, window))] if data is not None else []
    return Cloud(ways=[*ways, ("", _way(samples, window))], outside=float(1 - inside.mean()))


def window_of(samples: Sequence[Samples], data: Samples | None) -> Window:
    """One square window for all clouds: the data, and what of the samples is not too far off."""
    if samples[0].ndim == 4:
        return np.zeros(2), np.ones(2)  # images fill their frame
    frame = samples[-1] if data is None else data
    low, high = frame.min(axis=0), frame.max(axis=0)
    extent = (high - low).max()
    points = np.nan_to_num(np.concatenate(samples), nan=0.0, posinf=0.0, neginf=0.0)
    low = np.clip(np.quantile(points, 0.01, axis=0), low - 2 * extent, low)
    high = np.clip(np.quantile(points, 0.99, axis=0), high, high + 2 * extent)
    centre, half = (low + high) / 2, 0.56 * (high - low).max()
    return centre - half, centre + half


def image_grid(images: Samples, gap_value: float = 1.0) -> Samples:
    """(n, c, h, w) images in [-1, 1] as one picture in [0, 1], (H, W) or (H, W, 3), with gaps.

    A pixel that is not a number is drawn black.
    """
    n, c, h, w = images.shape
    side = math.ceil(math.sqrt(n))
    gap = max(1, h // 16)
    colours = 1 if c == 1 else 3
    canvas = np.full((side * (h + gap) - gap, side * (w + gap) - gap, colours), gap_value)
    unit = np.clip(np.nan_to_num((images[:, :colours].astype(np.float64) + 1) / 2, nan=0.0), 0, 1)
    for index, image in enumerate(unit):
        top, left = (index // side) * (h + gap), (index % side) * (w + gap)
        canvas[top : top + h, left : left + w] = image.transpose(1, 2, 0)
    return canvas[..., 0] if colours == 1 else canvas


def _grid(images: Samples) -> Grid:
    tile = min(max(images.shape[-2:]), TILE)
    side = min(max(GRID // tile, 3), 6)
    drawn = _image(image_grid(images[: side * side], GREY))
    if (longest := max(drawn.size)) > GRID:
        share = GRID / longest
        drawn = drawn.resize((round(drawn.width * share), round(drawn.height * share)))
    small = drawn.width * drawn.height <= LOSSLESS
    file = BytesIO()
    if small:
        drawn.putalpha(_image(image_grid(np.ones_like(images[: side * side, :1]), 0.0)))
        drawn.save(file, "PNG", optimize=True)
    else:
        drawn.save(file, "JPEG", quality=80)
    kind = "png" if small else "jpeg"
    text = base64.b64encode(file.getvalue()).decode("ascii")
    return Grid(uri=f"data:image/{kind};base64,{text}", coarse=tile <= 32)


def _image(picture: Samples) -> Image.Image:
    return Image.fromarray(np.round(picture * 255).astype(np.uint8))


def _way(points: Samples, window: Window) -> str:
    """A dot a point, in whole units of the frame; those outside are left out."""
    low, high = window
    placed = (points[:NUM_POINTS] - low) / (high - low) * BOX
    placed[:, 1] = BOX - placed[:, 1]
    inside = ((placed >= 0) & (placed <= BOX)).all(axis=1)
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in placed[inside])


def _load(file: Path) -> dict[str, Samples]:
    with damage_of(file, RunError, "delete it, the report does without"):
        found = {name: array.astype(np.float32) for name, array in load_file(file).items()}
        if "samples" not in found or not set(found) <= {"samples", "data"}:
            raise ValueError(f"it should hold samples, and holds {', '.join(found) or 'nothing'}")
        return found
