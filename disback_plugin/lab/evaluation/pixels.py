"""From an image to what a network is given, as a protocol's `Pixels` say."""

from collections.abc import Callable

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.lab.data.optional import needed
from disback_plugin.lab.evaluation.protocol import Pixels

INPUT = 299  # pixels, Inception's
Prepare = Callable[[np.ndarray], np.ndarray]


def preparing(pixels: Pixels) -> Prepare:
    """(3, H, W) uint8 -> (3, h, w): uint8, or float32 in [0, 255] from clean-fid's resize."""
    resize = _clean_resize() if pixels.resize == "clean" else None

    def prepare(image: np.ndarray) -> np.ndarray:
        image = _coloured(image)
        if pixels.crop is not None:
            assert pixels.size is not None
            image = (_square if pixels.crop == "square" else _patch)(image, pixels.size)
        # views: whoever puts a batch together copies them once
        return image if resize is None else resize(image.transpose(1, 2, 0)).transpose(2, 0, 1)

    return prepare


def _coloured(image: np.ndarray) -> np.ndarray:
    """Grey images in three equal channels, as EDM has them."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise DataError(f"an image is {image.dtype} {image.shape}, not uint8 (3, H, W)")
    return np.repeat(image, 3, axis=0) if image.shape[0] == 1 else image


def _square(image: np.ndarray, size: int) -> np.ndarray:
    pil = needed("PIL.Image", "resizing images", extra="eval")
    height, width = image.shape[1:]
    side = min(height, width)
    # where a margin is odd, torchvision's rounding, which DMD2 uses: half to even
    top, left = round((height - side) / 2.0), round((width - side) / 2.0)
    square = image[:, top : top + side, left : left + side]
    if side == size:
        return square
    opened = pil.fromarray(np.ascontiguousarray(square.transpose(1, 2, 0)))
    resized = opened.resize((size, size), pil.Resampling.LANCZOS)
    return np.asarray(resized).transpose(2, 0, 1)


def _patch(image: np.ndarray, size: int) -> np.ndarray:
    height, width = image.shape[1:]
    if height < size or width < size:
        raise DataError(f"an image has {width} x {height} pixels; a patch of {size} needs more")
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return image[:, top : top + size, left : left + size]


def _clean_resize() -> Prepare:
    """clean-fid's own function: channel by channel in float, with antialiasing, clipped."""
    return needed("cleanfid.resize", "this protocol's resize", extra="eval").build_resizer("clean")
