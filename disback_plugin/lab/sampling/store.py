"""Images on the way: PNG files that are whole or absent, written by threads; digests of each."""

import hashlib
import logging
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from disback_plugin.errors import DataError
from disback_plugin.files import leftover_temps, remove
from disback_plugin.lab.data.optional import needed
from disback_plugin.reading import told

log = logging.getLogger("disback")

COMPRESSION = 1  # zlib's fastest: the pixels are the same
MAX_WORKERS = 8
IN_FLIGHT = 512  # images that wait to be written, at most
Array = np.ndarray[Any, np.dtype[np.uint8]]


def image_name(seed: int) -> str:
    """`000042.png`."""
    return f"{seed:06d}.png"


class ImageStore:
    """Images (H, W, C) of bytes in a folder, by seed.

    Each is written beside its place and renamed: what is there after a kill is whole, and what a
    failing disk has torn all the same is found when it is read again, and made again.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int]) -> None:
        self.folder, self.shape = folder, shape
        self._image = needed("PIL.Image", "writing images")
        self._pool = ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1))
        self._room = threading.Semaphore(IN_FLIGHT)
        self._written: dict[int, Future[str]] = {}

    def __enter__(self) -> "ImageStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)

    def put(self, seed: int, image: Array) -> None:
        """Have a thread write one image; waits while too many are under way."""
        self._room.acquire()
        self._written[seed] = self._pool.submit(self._write, seed, image)

    def digests(self) -> dict[int, str]:
        """Of all that were put, once they are written; raises what went wrong."""
        return {seed: done.result() for seed, done in self._written.items()}

    def finished(self, seeds: Iterable[int]) -> dict[int, str]:
        """Digests of the images that are there and whole; what is torn is removed, and said."""
        for left in leftover_temps(self.folder):
            remove(left)
        there = {file.name for file in self.folder.iterdir()}
        found = [seed for seed in seeds if image_name(seed) in there]
        whole = zip(found, self._pool.map(self._checked, found), strict=True)
        return {seed: digest for seed, digest in whole if digest}

    def read(self, seed: int) -> Array:
        """One image; DataError where it is not whole, or of another shape."""
        file = self.folder / image_name(seed)
        try:
            with self._image.open(file) as image:
                image.load()
                array = np.asarray(image)
        except Exception as problem:  # a damaged PNG raises nearly anything
            raise DataError(f"{file} is no whole image: {told(problem)}") from None
        if array.shape != self._stored_shape or array.dtype != np.uint8:
            raise DataError(f"{file} is an image of {array.shape}, not {self._stored_shape}")
        return array.reshape(self.shape)

    @property
    def _stored_shape(self) -> tuple[int, ...]:
        return self.shape[:2] if self.shape[2] == 1 else self.shape

    def _write(self, seed: int, image: Array) -> str:
        try:
            target = self.folder / image_name(seed)
            temp = self.folder / f".tmp-{os.getpid()}-{target.name}"
            picture = self._image.fromarray(image.reshape(self._stored_shape))
            picture.save(temp, format="png", compress_level=COMPRESSION)
            os.replace(temp, target)
            return digest_of(image)
        finally:
            self._room.release()

    def _checked(self, seed: int) -> str | None:
        try:
            return digest_of(self.read(seed))
        except DataError as problem:
            log.warning("%s: it is made again", problem)
            (self.folder / image_name(seed)).unlink()
            return None


def digest_of(image: Array) -> str:
    """SHA-256 of an image's bytes, row by row."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def digest_of_all(digests: dict[int, str]) -> str:
    """SHA-256 over the images' own, in the order of their seeds."""
    lines = "\n".join(digests[seed] for seed in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()
