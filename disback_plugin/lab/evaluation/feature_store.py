"""Features of an image set on disk, in shards that are whole or absent: what a kill leaves counts.

Shard k holds the rows of images k * SHARD to (k + 1) * SHARD. The network always sees the same
BLOCK images together, whichever process asks it and however often that was killed: the numbers made
from a store are the same to the last bit.
"""

import hashlib
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import DataError
from disback_plugin.files import read_metadata, read_tensors, remove, write_tensors
from disback_plugin.lab.evaluation.networks import FeatureNetwork
from disback_plugin.lab.evaluation.pixels import Prepare
from disback_plugin.lab.evaluation.samples import Images

logger = logging.getLogger("disback")

BLOCK, SHARD = 50, 500
AHEAD = 3  # blocks made while the network works
NUM_READERS = min(16, os.cpu_count() or 1)
IDENTITY, PIXELS = "identity", "pixels"


class FeatureStore:
    """Shards of one image set, network and way of preparing pixels, which `identity` is of."""

    def __init__(
        self, folder: Path, num_images: int, identity: str, layers: Sequence[str] = ()
    ) -> None:
        self.folder, self.num_images, self.identity = folder, num_images, identity
        self.layers = tuple(layers)
        self.num_shards = -(-num_images // SHARD)

    def file(self, shard: int) -> Path:
        return self.folder / f"shard_{shard:06d}.safetensors"

    def missing(self) -> list[int]:
        """Shards still to be made; those of other images or another network are made anew."""
        return [shard for shard in range(self.num_shards) if not self._is_there(shard)]

    def _is_there(self, shard: int) -> bool:
        file = self.file(shard)
        if not file.exists():
            return False
        try:
            return read_metadata(file, DataError).get(IDENTITY) == self.identity
        except DataError as error:
            logger.warning("%s: it is made anew", error)
            remove(file)
            return False

    def write(self, shard: int, layers: dict[str, Tensor], pixels: str) -> None:
        """Features (n, d) of each layer, and the SHA-256 of the images' bytes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(
            self.file(shard), layers, {IDENTITY: self.identity, PIXELS: pixels}, seal=True
        )

    def pieces(self, layer: str, rows: np.ndarray | None = None) -> Iterator[Tensor]:
        """The features (n, d) float32 of rows in order, shard by shard; rows: sorted numbers."""
        for shard in range(self.num_shards):
            first = shard * SHARD
            if rows is None:
                yield self._read(shard)[layer]
                continue
            start, end = np.searchsorted(rows, (first, first + SHARD))
            if end > start:
                yield self._read(shard)[layer][torch.from_numpy(rows[start:end] - first)]

    def pixels_digest(self) -> str:
        """One SHA-256 over all images' pixels, whatever files they lie in."""
        whole = hashlib.sha256()
        for shard in range(self.num_shards):
            whole.update(read_metadata(self.file(shard), DataError)[PIXELS].encode())
        return whole.hexdigest()

    def _read(self, shard: int) -> dict[str, Tensor]:
        file = self.file(shard)
        try:
            return read_tensors(file, DataError, sealed=True)[0]
        except DataError as error:
            raise DataError(f"{error}; delete it and give the same command again") from None


def fill(
    store: FeatureStore,
    images: Images,
    network: FeatureNetwork,
    prepare: Prepare,
    device: torch.device,
    share: tuple[int, int] = (0, 1),
) -> Iterator[int]:
    """Make this process's missing shards (rank, of how many); yields how many images each had."""
    rank, num_ranks = share
    network.to(device)
    # by number, not by place in what is missing: that changes while others write
    shards = [one for one in store.missing() if one % num_ranks == rank]
    # the readers end first: the clerk waits for them
    with _threads(1) as clerk, _threads(NUM_READERS) as readers:
        found: dict[str, list[Tensor]] = {name: [] for name in store.layers}
        for block in _blocks(images, shards, prepare, readers, clerk):
            answer = network.features(torch.from_numpy(block.images).to(device), store.layers)
            for name in store.layers:
                found[name].append(answer[name].cpu())
            if block.pixels is not None:
                rows = {name: torch.cat(parts) for name, parts in found.items()}
                store.write(block.shard, rows, block.pixels)
                found = {name: [] for name in store.layers}
                yield len(_rows(images, block.shard))


@contextmanager
def _threads(number: int) -> Iterator[Executor]:
    """So many; where the block ends early, what they have not begun is dropped."""
    pool = ThreadPoolExecutor(number)
    try:
        yield pool
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
    pool.shutdown()


@dataclass(frozen=True)
class _Block:
    """images: prepared, (n, 3, h, w). pixels: the digest of a shard's, with its last block."""

    shard: int
    images: np.ndarray
    pixels: str | None


def _rows(images: Images, shard: int) -> range:
    return range(shard * SHARD, min((shard + 1) * SHARD, len(images)))


def _blocks(
    images: Images,
    shards: Sequence[int],
    prepare: Prepare,
    readers: Executor,
    clerk: Executor,
) -> Iterator[_Block]:
    """The blocks of all shards in order, of which the next AHEAD are made while one is looked at.

    The readers decode and resize, each an image; the clerk, a single thread, puts their images
    together and counts their bytes in order. So the network's thread has nothing else to do.
    """

    def load(number: int) -> tuple[np.ndarray, np.ndarray]:
        raw = images.load(number)
        return prepare(raw), raw

    waiting: deque[Future[_Block]] = deque()
    for shard in shards:
        rows, pixels = _rows(images, shard), hashlib.sha256()
        for start in range(0, len(rows), BLOCK):
            read = [readers.submit(load, row) for row in rows[start : start + BLOCK]]
            is_last = start + BLOCK >= len(rows)
            waiting.append(clerk.submit(_together, images, shard, read, pixels, is_last))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _together(
    images: Images, shard: int, read: Sequence[Future[Any]], pixels: Any, is_last: bool
) -> _Block:
    prepared, raw = zip(*(one.result() for one in read), strict=True)
    shapes = sorted({image.shape for image in prepared})
    if len(shapes) > 1:
        raise DataError(
            f"{images.path} has images of {shapes[0][1:]} and {shapes[1][1:]} pixels, which this "
            "protocol does not resize: give images of one size"
        )
    for image in raw:
        pixels.update(repr(image.shape).encode())
        pixels.update(np.ascontiguousarray(image).data)
    return _Block(shard, np.stack(prepared), pixels.hexdigest() if is_last else None)
