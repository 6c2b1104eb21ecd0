"""Images that are measured: a folder, a zip, an .npz or an LMDB, and what is known of them.

`disback sample` writes samples.json into a folder or zip, or NAME.json beside NAME.npz: which seed
made which image, its label, from what. Without it, image i is that of seed i.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.lab.data import image_pixels
from disback_plugin.lab.data.array_rows import ArrayRows, array_names
from disback_plugin.lab.data.image_arrays import IMAGES
from disback_plugin.lab.data.image_files import open_files
from disback_plugin.lab.data.images import open_images
from disback_plugin.lab.data.lmdb_reader import DATA_FILE, LMDBReader
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import cut, told
from disback_plugin.sealed import damage_of, digest, read_sealed, unseal

SAMPLES = "samples.json"
AGAIN = "sample again, or take the file away: images without it are read as they come"


@dataclass(frozen=True, kw_only=True)
class Images:
    """load: image i as (3, H, W) uint8; threads may share it.

    identity: changes with the files, before they are read. said: what samples.json says; None
    where there is none. seeds: (N,) int64, of each image. labels: how they were chosen ("random",
    "balanced", or one class), where that is known.
    """

    path: Path
    num: int
    load: Callable[[int], np.ndarray]
    identity: str
    seeds: np.ndarray
    said: Mapping[str, Any] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.num

    @property
    def labels(self) -> str | int | None:
        return (self.said or {}).get("labels")


def open_samples(path: Path) -> Images:
    """The images at `path`; DataError where there are none, or samples.json is not theirs."""
    if (path / DATA_FILE).is_file():
        return _lmdb(path)
    if path.suffix.lower() == ".npz" and not path.is_dir():
        return _array(path)
    source = open_images(path, "none")
    pil = needed("PIL.Image", "reading images", extra="eval")
    seen, lock = source.seen, threading.Lock()

    def load(number: int) -> np.ndarray:
        try:
            if path.is_file():  # a zip is one stream
                with lock:
                    content = source.read(number)
            else:
                content = source.read(number)
            return image_pixels.read_pixels(pil, content, None, seen)
        except DataError as error:
            raise DataError(f"{cut(source.names[number])}: {error}") from None
        except Exception as error:  # damaged images raise nearly anything
            raise DataError(f"{cut(source.names[number])} cannot be read: {told(error)}") from error

    said = _said_within(path)
    identity = _of_file(path) if path.is_file() else _listing(source.names)
    names = [PurePosixPath(name).stem for name in source.names]
    return _images(path, len(source), load, identity, said, names)


def _images(
    path: Path,
    num: int,
    load: Callable[[int], np.ndarray],
    identity: str,
    said: Mapping[str, Any] | None,
    names: Sequence[str] = (),
) -> Images:
    seeds = _seeds(path, num, said, names)
    return Images(path=path, num=num, load=load, identity=identity, seeds=seeds, said=said)


def _array(path: Path) -> Images:
    names = array_names(path)
    name = next((name for name in IMAGES if name in names), None)
    if name is None:
        raise DataError(f"{path} has the arrays {cut(', '.join(sorted(names)))}, but no images")
    rows = ArrayRows(path, name)
    channels_last = len(rows.shape) == 4 and rows.shape[3] in (1, 3)
    if rows.dtype != np.uint8 or not channels_last:
        raise DataError(f"{path}: {name} is {rows.dtype} {rows.shape}, not uint8 (N, H, W, 3)")
    beside = path.with_suffix(".json")
    said = read_sealed(beside, DataError, AGAIN) if beside.exists() else None

    def load(number: int) -> np.ndarray:
        return rows.row(number).transpose(2, 0, 1)

    return _images(path, len(rows), load, _of_file(path), said)


def _lmdb(path: Path) -> Images:
    reader = LMDBReader(path)
    shape = reader.shape("images")
    if shape is None or len(shape) != 4:
        raise DataError(f"{path} holds no images (N, C, H, W)")
    lock = threading.Lock()  # an environment without locks has its readers take turns

    def load(number: int) -> np.ndarray:
        with lock:
            return reader.rows("images", shape[1:], (number,))[0]

    return _images(path, shape[0], load, _of_file(path / DATA_FILE), None)


def _of_file(path: Path) -> str:
    found = path.stat()
    return digest([found.st_size, found.st_mtime_ns])


def _listing(names: Sequence[str]) -> str:
    found = [Path(name).stat() for name in names]
    rows = zip(names, found, strict=True)
    return digest([(Path(name).name, stat.st_size, stat.st_mtime_ns) for name, stat in rows])


def _said_within(path: Path) -> Mapping[str, Any] | None:
    files = open_files(path)
    if files is None or SAMPLES not in files.names:
        return None
    with damage_of(path / SAMPLES, DataError, AGAIN):
        return unseal(json.loads(files.read(SAMPLES)), path / SAMPLES)


def _seeds(
    path: Path, num: int, said: Mapping[str, Any] | None, names: Sequence[str]
) -> np.ndarray:
    """What is said, else the numbers that are the files' names, else 0, 1, ..."""
    if said is not None and "seeds" in said:
        with damage_of(path / SAMPLES, DataError, AGAIN):
            seeds = np.arange(int(said["seeds"]["first"]), int(said["seeds"]["last"]) + 1)
        if len(seeds) != num:
            raise DataError(
                f"{path} has {num:,} images, its {SAMPLES} speaks of {seeds.size:,}: wait until "
                "sampling has finished, or sample again"
            )
        return seeds
    if names and all(name.isdigit() and len(name) < 18 for name in names):
        seeds = np.array([int(name) for name in names], dtype=np.int64)
        if len(np.unique(seeds)) == num:  # not numbered anew in each folder
            return seeds
    return np.arange(num, dtype=np.int64)
