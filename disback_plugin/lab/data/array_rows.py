"""Rows of a large array in an .npz, read piece by piece: 50,000 images need not fit into memory."""

import threading
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.reading import require_regular, told


class ArrayRows:
    """One array of an .npz; reading forwards is quick, going back starts over where compressed.

    Nothing in the file is executed: an array of objects is refused. Threads may share it.
    """

    def __init__(self, file: Path, name: str) -> None:
        require_regular(file, DataError)
        self.file, self.name = file, name
        self._lock = threading.Lock()
        self._stream: IO[bytes] | None = None
        self._at = 0
        with self._told():
            self._archive = zipfile.ZipFile(file)
            self.shape, self.dtype = self._open()

    def __len__(self) -> int:
        return self.shape[0]

    def row(self, number: int) -> np.ndarray:
        """Row `number`; DataError where the file ends before it."""
        size = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        with self._lock, self._told():
            if number < self._at:
                self._open()
            assert self._stream is not None
            if number > self._at:
                self._stream.seek((number - self._at) * size, 1)
            data = self._stream.read(size)
            self._at = number + 1
        if len(data) != size:
            raise DataError(f"{self.file} ends before row {number} of {self.name}: it is not whole")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])

    def _open(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        if self._stream is not None:
            self._stream.close()
        self._stream, self._at = self._archive.open(f"{self.name}.npy"), 0
        version = np.lib.format.read_magic(self._stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise DataError(f"{self.file}: {self.name} is of numpy's format {version}, not 1 or 2")
        shape, in_columns, dtype = read(self._stream)
        if dtype.hasobject:
            raise DataError(f"{self.file}: {self.name} holds Python objects, which are not loaded")
        if in_columns or not shape or shape[0] < 1:
            raise DataError(f"{self.file}: {self.name} is {shape}, no rows in C order")
        return shape, dtype

    def _told(self) -> "_Telling":
        return _Telling(self.file, self.name)


class _Telling:
    """What zipfile and numpy raise for a damaged file, as DataError."""

    def __init__(self, file: Path, name: str) -> None:
        self._file, self._name = file, name

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, KeyError):
            raise DataError(f"{self._file} has no array {self._name!r}") from None
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise DataError(f"{self._file} cannot be read: {told(error)}") from None


def array_names(file: Path) -> set[str]:
    """The arrays in an .npz; DataError where it is none."""
    require_regular(file, DataError)
    with _Telling(file, "any"), zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}
