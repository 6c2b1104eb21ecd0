"""Images side by side in one picture."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def grid_of(images: Sequence[Array] | Array) -> Array:
    """Images (H, W, C), uint8, row by row in a square, with white gaps."""
    height, width, channels = images[0].shape
    side, gap = math.ceil(math.sqrt(len(images))), max(1, height // 16)
    rows = math.ceil(len(images) / side)
    size = (rows * (height + gap) - gap, side * (width + gap) - gap, channels)
    picture = np.full(size, 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = (index // side) * (height + gap), (index % side) * (width + gap)
        picture[top : top + height, left : left + width] = image
    return picture
