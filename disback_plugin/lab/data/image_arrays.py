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
    arrays, others = _read(path, (*IMAGES, *LABELS, *ENCODED))
    num, read = _images(path, arrays)
    if num < 1:
        raise DataError(f"{path} holds no images")
    if labels == NO_LABELS:
        return num, read, Labels(None, "none, as asked")
    name = _only(path, LABELS, arrays)
    if name is None and (unread := [other for other, rows in others.items() if rows == num]):
        raise DataError(
            f"{path} has no array {' or '.join(LABELS)}, but {', '.join(unread[:5])}, which could "
            f"hold labels: save them under that name, or pass --labels {NO_LABELS}"
        )
    if name is None:
        return num, read, Labels(None, f"none: there is no array {' or '.join(LABELS)}")
    numbers = arrays[name]
    counted = numbers.size == num and numbers.dtype.kind in "iu"
    if not counted or not 0 <= numbers.min() <= numbers.max() < MAX_CLASSES:
        raise DataError(
            f"{path}: labels are {numbers.dtype} {numbers.shape}, not {num} class numbers"
        )
    return num, read, Labels(numbers.reshape(num).astype(np.int64), f"from the array {name}")


def _only(path: Path, names: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> str | None:
    """The one of `names` that is there; DataError for several."""
    there = [name for name in names if name in arrays]
    if len(there) > 1:
        raise DataError(f"{path} has {' and '.join(there)}: save the one that is meant")
    return there[0] if there else None


def _read(path: Path, wanted: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The wanted arrays that are there, and how many rows others have."""
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
            found = {name: file[name] for name in wanted if name in file.files}
        others = {
            cut(name, 40): _rows(path, info) for name, info in stored.items() if name not in wanted
        }
        return found, others
    except MemoryError:
        raise DataError(f"{path} cannot be read: its arrays do not fit into memory") from None
    except Exception as error:  # of the zip, of an array's header, of what unpacks
        raise DataError(f"{path} cannot be read: {told(error)}") from None


def _rows(path: Path, info: zipfile.ZipInfo) -> int:
    """The first size in an array's header; 0 where there is none."""
    with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            return 0
        shape, *_ = np.lib.format.read_array_header_1_0(stream)
    return int(shape[0]) if shape else 0


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
    name = _only(path, IMAGES, arrays)
    if name is None:
        raise DataError(
            f"{path} has the arrays {', '.join(arrays)}, but neither images nor jpeg and offsets"
        )
    images = arrays[name]
    if images.dtype != np.uint8 or images.ndim != 4 or not {1, 3} & {*images.shape[1::2]}:
        raise DataError(
            f"{path}: images are {images.dtype} {images.shape}, not uint8 (N, H, W, 3 or 1) or "
            "(N, 3 or 1, H, W)"
        )
    if {*images.shape[1::2]} <= {1, 3}:
        raise DataError(f"{path}: images are {images.shape}: nothing tells where channels are")
    if images.shape[3] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.shape[3] == 1:  # grey, which Pillow wants without channels
        images = images[..., 0]
    return len(images), lambda i: np.ascontiguousarray(images[i])
