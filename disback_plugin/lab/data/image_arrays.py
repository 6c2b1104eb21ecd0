"""Images in the arrays of an .npz, with labels."""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.lab.data.image_labels import MAX_CLASSES, NO_LABELS, Labels
from disback_plugin.reading import cut, require_regular, told

IMAGES, LABELS = ("images", "arr_0"), ("labels", "arr_1")  # the second are OpenAI's names
ENCODED = ("jpeg", "offsets")


def open_arrays(path: Path, labels: str) -> tuple[int, Callable[[int], bytes | np.ndarray], Labels]:
    """How many images, what reads image i, and labels.

    `images` (N, H, W, C) or (N, C, H, W) uint8, or `jpeg`, files end to end, with `offsets` (N+1,);
    `labels` (N,). Raises DataError.
    """
    if labels not in ("auto", NO_LABELS):
        raise DataError(f"{path} keeps its labels itself: leave --labels {cut(labels)} out")
    arrays = _read(path, (*IMAGES, *LABELS, *ENCODED))
    num, read = _images(path, arrays)
    if num < 1:
        raise DataError(f"{path} holds no images")
    if labels == NO_LABELS:
        return num, read, Labels(None, "none, as asked")
    name = next((name for name in LABELS if name in arrays), None)
    if name is None:
        return num, read, Labels(None, f"none: there is no array {' or '.join(LABELS)}")
    numbers = arrays[name]
    counted = numbers.size == num and numbers.dtype.kind in "iu"
    if not counted or not 0 <= numbers.min() <= numbers.max() < MAX_CLASSES:
        raise DataError(
            f"{path}: labels are {numbers.dtype} {numbers.shape}, not {num} class numbers"
        )
    return num, read, Labels(numbers.reshape(num).astype(np.int64), f"from the array {name}")


def _read(path: Path, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    require_regular(path, DataError)
    try:
        with zipfile.ZipFile(path) as archive:
            stored = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        needs = sum(stored[name].file_size for name in wanted if name in stored)
        has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if needs > has:
            raise DataError(f"its arrays take {needs:,} bytes of memory; there are {has:,}")
        if not stored.keys() & {*wanted}:
            names = ", ".join(cut(name, 40) for name in [*stored][:20])
            raise DataError(f"it has the arrays {names}, but neither images nor jpeg and offsets")
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in wanted if name in file.files}
    except MemoryError:
        raise DataError(f"{path} cannot be read: its arrays do not fit into memory") from None
    except Exception as error:  # of the zip, of an array's header, of what unpacks
        raise DataError(f"{path} cannot be read: {told(error)}") from None


def _images(
    path: Path, arrays: Mapping[str, np.ndarray]
) -> tuple[int, Callable[[int], bytes | np.ndarray]]:
    if arrays.keys() >= {*ENCODED}:
        data, offsets = arrays["jpeg"], arrays["offsets"]
        if data.dtype != np.uint8 or offsets.dtype.kind not in "iu" or offsets.ndim != 1:
            raise DataError(
                f"{path}: jpeg is {data.dtype} {data.shape} and offsets {offsets.dtype} "
                f"{offsets.shape}, not uint8 (bytes,) and whole numbers (N + 1,)"
            )
        bounds = offsets.astype(np.int64)
        if len(bounds) and (bounds[0] < 0 or bounds[-1] > data.size or (np.diff(bounds) < 1).any()):
            raise DataError(f"{path}: offsets do not rise from 0 to the {data.size} bytes of jpeg")
        return len(bounds) - 1, lambda i: data[bounds[i] : bounds[i + 1]].tobytes()
    images = next((arrays[name] for name in IMAGES if name in arrays), None)
    if images is None:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays)}, but neither images nor jpeg and offsets"
        )
    if images.dtype != np.uint8 or images.ndim != 4 or not {1, 3} & {*images.shape[1::2]}:
        raise DataError(
            f"{path}: images are {images.dtype} {images.shape}, not uint8 (N, H, W, 3 or 1) or "
            "(N, 3 or 1, H, W)"
        )
    if images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] == 1:  # grey, which Pillow wants without channels
        images = images[..., 0]
    return len(images), lambda i: np.ascontiguousarray(images[i])
