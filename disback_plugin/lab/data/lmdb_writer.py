"""Writes an LMDB in DMD2's layout (see `lmdb_reader`), whole or not at all."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.files import sync, temp_for
from disback_plugin.lab.data.lmdb_reader import DATA_FILE, DTYPES, LOCK_FILE, row_key, shape_key
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import told

MAP_SIZE = 1 << 30
CHUNK_BYTES = 1 << 25

Row = Mapping[str, "np.ndarray | str"]


def write_image_lmdb(
    folder: Path,
    rows: Iterable[tuple[np.ndarray, int | None]],
    *,
    replace: bool = False,
    map_size: int = MAP_SIZE,
) -> int:
    """Write images (C, H, W) uint8 with class labels, None for all or for none; returns how many.

    Raises DataError where `folder` exists (and is not `replace`d), or an image or a label does not
    go with the first.
    """

    def arrays() -> Iterator[Row]:
        for number, (image, label) in enumerate(rows):
            if image.dtype != np.uint8 or image.ndim != 3:
                raise DataError(
                    f"image {number} is {image.dtype} {image.shape}, not uint8 (channels, height, "
                    "width)"
                )
            # a plain number, shape (): as DMD2's own script stores it
            row: dict[str, np.ndarray | str] = {"images": image}
            yield row if label is None else row | {"labels": np.asarray(label, DTYPES["labels"])}

    return write_lmdb(folder, arrays(), replace=replace, map_size=map_size)


def write_latent_lmdb(
    folder: Path,
    rows: Iterable[tuple[np.ndarray, str]],
    *,
    replace: bool = False,
    map_size: int = MAP_SIZE,
) -> int:
    """Write latents (C, H, W), stored as float16, with their prompts; returns how many.

    Raises DataError as `write_image_lmdb`, and where a value is not finite as float16.
    """

    def arrays() -> Iterator[Row]:
        for number, (latent, prompt) in enumerate(rows):
            with np.errstate(over="ignore"):
                stored = np.asarray(latent).astype(DTYPES["latents"])
            if not np.isfinite(stored).all():
                raise DataError(f"latent {number} is not finite as float16")
            yield {"latents": stored, "prompts": prompt}

    return write_lmdb(folder, arrays(), replace=replace, map_size=map_size)


def write_lmdb(folder: Path, rows: Iterable[Row], *, replace: bool, map_size: int) -> int:
    """Write rows of named arrays and texts into a temp folder beside `folder`, then rename it."""
    lmdb = needed("lmdb", f"writing {folder}")
    refuse_existing(folder, replace)
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        raise DataError(f"there is nothing to write into {folder}")
    with _told(folder, lmdb.Error), _whole_or_absent(folder, replace) as temp:
        # a crash leaves a temp folder behind, so pages need no flush before the end
        environment = lmdb.open(str(temp), map_size=map_size, lock=False, sync=False)
        try:
            num, chunk, size = 0, {}, 0
            for row in chain([first], iterator):
                _refuse_other(first, row, num)
                for name, value in row.items():
                    data = value.encode() if isinstance(value, str) else value.tobytes()
                    chunk[row_key(name, num)] = data
                    size += len(data)
                num += 1
                if size > CHUNK_BYTES:
                    _put(environment, chunk, lmdb.MapFullError)
                    chunk, size = {}, 0
            for name, value in first.items():
                if isinstance(value, np.ndarray):
                    chunk[shape_key(name)] = " ".join(map(str, (num, *value.shape))).encode()
            _put(environment, chunk, lmdb.MapFullError)
            environment.sync(True)
        finally:
            environment.close()
    return num


def refuse_existing(folder: Path, replace: bool) -> None:
    """Raise DataError unless `folder` is free, or an LMDB and nothing else that may be replaced."""
    if not os.path.lexists(folder):
        return
    if not replace:
        raise DataError(f"{folder} exists; choose another name, or replace it (--force)")
    found = {item.name for item in folder.iterdir()} if folder.is_dir() else set()
    if DATA_FILE not in found or found - {DATA_FILE, LOCK_FILE}:
        raise DataError(f"{folder} is no LMDB folder alone, so it is not replaced; move it away")


@contextmanager
def _told(folder: Path, lmdb_error: type[Exception]) -> Iterator[None]:
    """Turns a full disk, a folder that may not be written and the like into one DataError."""
    try:
        yield
    except (lmdb_error, OSError, OverflowError, MemoryError) as error:
        raise DataError(
            f"{folder} cannot be written ({told(error)}), and nothing is left of it: is there "
            "room, and may you write there?"
        ) from error


@contextmanager
def _whole_or_absent(folder: Path, replace: bool) -> Iterator[Path]:
    folder = folder.resolve()
    temp = temp_for(folder)  # what a kill leaves there, the next try clears
    try:
        temp.mkdir(parents=True)
        yield temp
        sync(temp)
        refuse_existing(folder, replace)  # again: somebody else may have made it meanwhile
        if folder.exists():  # a file can be replaced in one go, a folder cannot
            os.replace(temp / DATA_FILE, folder / DATA_FILE)
            (folder / LOCK_FILE).unlink(missing_ok=True)
            sync(folder)
        else:
            os.replace(temp, folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _put(environment: Any, chunk: dict[bytes, bytes], map_full: type[Exception]) -> None:
    """One transaction, keys in order; the map is doubled until the chunk fits."""
    while True:
        try:
            with environment.begin(write=True) as transaction:
                for key in sorted(chunk):
                    transaction.put(key, chunk[key])
            return
        except map_full:  # the transaction was undone
            environment.set_mapsize(2 * environment.info()["map_size"])


def _refuse_other(first: Row, row: Row, number: int) -> None:
    if first.keys() != row.keys():
        raise DataError(f"row {number} has {', '.join(row)}, but row 0 has {', '.join(first)}")
    for name, value in row.items():
        expected = first[name]
        if np.shape(value) != np.shape(expected):  # () for a text
            raise DataError(
                f"row {number} of {name} has shape {np.shape(value)}, but row 0 has "
                f"{np.shape(expected)}: give one resolution for all (--resolution)"
            )
