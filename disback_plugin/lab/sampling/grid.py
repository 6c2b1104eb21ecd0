"""A picture of the first images, to look at."""

from collections.abc import Sequence
from pathlib import Path

from disback_plugin.files import remove, temp_for
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.grid import grid_of
from disback_plugin.lab.sampling.store import Array

NUM_TILES = 64


def grid_file(out: Path) -> Path:
    """`NAME.grid.png` for NAME, NAME.npz and NAME.zip."""
    return out.with_name(f"{out.stem if out.suffix in ('.npz', '.zip') else out.name}.grid.png")


def write_grid(images: Sequence[Array], file: Path) -> None:
    """Images (H, W, C) row by row in a square, with white gaps."""
    picture = grid_of(images)
    temp = temp_for(file)
    try:
        flat = picture[..., 0] if picture.shape[2] == 1 else picture
        needed("PIL.Image", "drawing a grid").fromarray(flat).save(temp, format="png")
        temp.replace(file)
    finally:
        remove(temp)
