"""A picture of the first images, to look at."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from disback_plugin.files import remove, temp_for
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.sampling.store import Array

NUM_TILES = 64


def grid_file(out: Path) -> Path:
    """`NAME.grid.png` for NAME, NAME.npz and NAME.zip."""
    return out.with_name(f"{out.stem if out.suffix in ('.npz', '.zip') else out.name}.grid.png")


def write_grid(images: Sequence[Array], file: Path) -> None:
    """Images (H, W, C) row by row in a square, with white gaps."""
    height, width, channels = images[0].shape
    side, gap = math.ceil(math.sqrt(len(images))), max(1, height // 16)
    rows = math.ceil(len(images) / side)
    size = (rows * (height + gap) - gap, side * (width + gap) - gap, channels)
    picture = np.full(size, 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // side) * (height + gap), (index % side) * (width + gap)
        picture[top : top + height, left : left + width] = image
    temp = temp_for(file)
    try:
        flat = picture[..., 0] if channels == 1 else picture
        needed("PIL.Image", "drawing a grid").fromarray(flat).save(temp, format="png")
        temp.replace(file)
    finally:
        remove(temp)
