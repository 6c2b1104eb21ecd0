"""Arrays in an LMDB laid out as in DMD2 (tianweiy/DMD2: main/data, main/sd_image_dataset.py).

`<name>_shape` holds an array's shape as text, rows first: "1281167 3 64 64". `<name>_<i>_data`
holds row i: its bytes in C order, little-endian, or a text in UTF-8, for which there is no shape.
Dtypes are not stored: images are uint8, labels int64, latents float16.
"""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import cut, told

DTYPES: dict[str, np.dtype[Any]] = {
    "images": np.dtype("u1"),
    "labels": np.dtype("<i8"),
    "latents": np.dtype("<f2"),
}
DATA_FILE = "data.mdb"
LOCK_FILE = "lock.mdb"

# LMDB allows a file to be open once a process, so the readers of one file share it
_open_here: WeakValueDictionary[str, Any] = WeakValueDictionary()
_opened_by = os.getpid()


def shape_key(name: str) -> bytes:
    """Where the shape of an array is."""
    return f"{name}_shape".encode()


def row_key(name: str, row: int) -> bytes:
    """Where a row is."""
    return f"{name}_{row}_data".encode()


class LMDBReader:
    """Reads rows; opened on first use in each process, so it can be forked and sent to workers.

    Raises DataError naming the folder and the key for what is missing or of the wrong size.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not (self.folder / DATA_FILE).is_file():
            hint = ": give the folder that holds it" if self.folder.name == DATA_FILE else ""
            raise DataError(f"{cut(self.folder)} is no LMDB folder: it has no {DATA_FILE}{hint}")
        self._environment: Any = None
        self._pid = -1

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None, "_pid": -1}

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape (N, ...) of an array; None where there is no such array."""
        with self._begin() as transaction:
            stored = transaction.get(shape_key(name))
            num_keys = transaction.stat()["entries"]
        if stored is None:
            return None
        try:
            shape = tuple(map(int, stored.split()))
        except ValueError:
            shape = ()
        if not shape or min(shape) < 1:
            raise DataError(f"{self.folder}: {name}_shape is {stored[:60]!r}, which is no shape")
        if shape[0] > num_keys:
            raise DataError(
                f"{self.folder}: {name}_shape says {shape[0]:,} rows, but {num_keys:,} keys are "
                "there"
            )
        return shape

    def rows(self, name: str, shape: Sequence[int], index: Sequence[int]) -> np.ndarray:
        """Rows `index` of an array whose rows have `shape`, as a new array (len(index), *shape)."""
        dtype, out = DTYPES[name], None
        with self._begin(buffers=True) as transaction:
            for position, row in enumerate(index):
                key = row_key(name, row)
                value = self._decode(key.decode(), self._get(transaction, key), dtype, shape)
                if out is None:  # not before a row is of that size: a damaged shape may say any
                    out = np.empty((len(index), *shape), dtype)
                out[position] = value
        return np.empty((0, *shape), dtype) if out is None else out

    def texts(self, name: str, index: Sequence[int]) -> list[str]:
        """Texts `index`."""
        with self._begin() as transaction:
            keys = [row_key(name, row) for row in index]
            stored = {key: self._get(transaction, key) for key in keys}
        try:
            return [stored[key].decode() for key in keys]
        except UnicodeDecodeError as error:
            raise DataError(f"{self.folder}: one of {name} is no text in UTF-8: {error}") from None

    def column(self, name: str, num: int) -> np.ndarray:
        """All `num` rows of an array of numbers, in one pass over its keys: (num,)."""
        dtype, prefix = DTYPES[name], f"{name}_".encode()
        out, seen = np.empty(num, dtype), np.zeros(num, bool)
        with self._begin() as transaction:
            cursor = transaction.cursor()
            more = cursor.set_range(prefix)
            while more and (key := cursor.key()).startswith(prefix):
                row = key[len(prefix) : -len(b"_data")]
                if row.isdigit() and key.endswith(b"_data") and int(row) < num:
                    out[int(row)] = self._decode(key.decode(), cursor.value(), dtype, ())
                    seen[int(row)] = True
                more = cursor.next()
        if not seen.all():
            raise DataError(f"{self.folder} has {seen.sum()} of the {num} rows of {name}")
        return out

    def _get(self, transaction: Any, key: bytes) -> Any:
        value = transaction.get(key)
        if value is None:
            raise DataError(f"{self.folder} has no {key.decode()}")
        return value

    def _decode(self, key: str, value: Any, dtype: np.dtype, shape: Sequence[int]) -> np.ndarray:
        expected = math.prod(shape) * dtype.itemsize
        if len(value) != expected:
            raise DataError(
                f"{self.folder}: {key} has {len(value)} bytes, but {tuple(shape)} as {dtype.name} "
                f"takes {expected}"
            )
        return np.frombuffer(value, dtype).reshape(shape)

    @contextmanager
    def _begin(self, buffers: bool = False) -> Iterator[Any]:
        if self._pid != os.getpid():
            self._environment = _open(self.folder.resolve())
            self._pid = os.getpid()
        lmdb = needed("lmdb", f"reading {self.folder}")
        try:
            with self._environment.begin(buffers=buffers) as transaction:
                yield transaction
        except lmdb.Error as error:
            raise DataError(f"{self.folder / DATA_FILE} is damaged: {error}") from None


def _open(folder: Path) -> Any:
    """The folder's environment in this process."""
    global _opened_by
    lmdb = needed("lmdb", f"reading {folder}")
    if _opened_by != os.getpid():  # forked: what the parent opened is closed here, for this child
        for inherited in list(_open_here.values()):
            inherited.close()
        _open_here.clear()
        _opened_by = os.getpid()
    environment = _open_here.get(str(folder))
    if environment is None:
        try:
            environment = lmdb.open(
                str(folder),
                readonly=True,
                create=False,
                lock=False,  # nobody writes into a finished data set
                readahead=False,  # rows are drawn at random
                meminit=False,
            )
        except (lmdb.Error, OSError, MemoryError) as error:
            raise DataError(f"{folder / DATA_FILE} cannot be opened: {told(error)}") from error
        _refuse_truncated(folder, environment)
        _open_here[str(folder)] = environment
    return environment


def _refuse_truncated(folder: Path, environment: Any) -> None:
    """Reading past the end of a mapped file would kill the process (SIGBUS)."""
    needs = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = (folder / DATA_FILE).stat().st_size
    if size < needs:
        environment.close()
        raise DataError(f"{folder / DATA_FILE} is truncated: {size} of {needs} bytes are there")
