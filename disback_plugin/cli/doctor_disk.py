"""What `disback doctor --disk` measures: free space, writing and reading, how many nodes fit."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import remove, temp_for
from disback_plugin.reading import require_regular
from disback_plugin.sealed import damage_of

CHUNK, CHUNKS = 1 << 22, 32  # 128 MiB are written and read
# stored bytes of a weight, from path/codecs.py; None: those of the teacher's own type
BYTES = {"full": None, "delta": 2.0, "bounded": 0.56}
MAX_HEADER = 100_000_000  # as the format allows


class Weights(NamedTuple):
    """How many numbers a teacher has, in how many bytes."""

    numbers: int
    bytes: int


def disk(folder: Path, weights: Weights | None) -> Iterator[str]:
    """Lines on the disk of `folder`, as `_told` has them; what is made for them is removed again.

    OSError where it cannot be written.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield from _told(folder, weights)
    finally:
        for each in made:
            with suppress(OSError):  # somebody else's by now
                each.rmdir()


def _told(folder: Path, weights: Weights | None) -> Iterator[str]:
    """Free space, speeds where there is room to measure them, and how many nodes fit."""
    free = shutil.disk_usage(folder).free
    yield f"disk {folder}: {free / 1e9:,.1f} GB free"
    size = CHUNK * CHUNKS
    if free < 4 * size:
        yield f"disk {folder}: too little room to measure its speed"
    else:
        writing, reading = _speeds(folder / "doctor.tmp")
        yield f"disk {folder}: writes {writing / 1e6:,.0f} MB/s, reads {reading / 1e6:,.0f} MB/s"
        if weights is not None:
            took = weights.bytes / writing, weights.bytes / reading
            yield f"a node in codec full: {took[0]:.1f} s to write, {took[1]:.1f} s to read"
    if weights is not None:
        yield f"teacher: {weights.numbers:,} weights, {weights.bytes / 1e9:,.2f} GB"
        for codec, each in BYTES.items():
            stored = weights.bytes if each is None else weights.numbers * each
            left = max(free - weights.bytes, 0)  # the teacher lies in the path's folder, too
            yield f"nodes that fit in codec {codec}: {int(left // stored):,}"


def _speeds(file: Path) -> tuple[float, float]:
    """Bytes a second to the disk, and back from it, not from memory where the system heeds that."""
    temp, chunk = temp_for(file), os.urandom(CHUNK)
    try:
        begun = time.perf_counter()
        with temp.open("wb", buffering=0) as stream:
            for _ in range(CHUNKS):
                stream.write(chunk)
            os.fsync(stream.fileno())
            written = time.perf_counter() - begun
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        begun = time.perf_counter()
        with temp.open("rb", buffering=0) as stream:
            while stream.read(CHUNK):
                pass
        return CHUNK * CHUNKS / written, CHUNK * CHUNKS / (time.perf_counter() - begun)
    finally:
        remove(temp)


def weights_of(path: Path) -> Weights:
    """Of a .safetensors file, or all below a folder, by their headers alone; CheckpointError."""
    files = sorted(path.rglob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise ConfigError(f"--teacher {path}: no .safetensors file is there")
    tensors = [tensor for file in files for tensor in _header(file).values()]
    return Weights(
        numbers=sum(prod(tensor["shape"]) for tensor in tensors),
        bytes=sum(tensor["data_offsets"][1] - tensor["data_offsets"][0] for tensor in tensors),
    )


def _header(file: Path) -> Mapping[str, Any]:
    require_regular(file, CheckpointError)
    advice = "give a .safetensors file, or a folder with them"
    with damage_of(file, CheckpointError, advice), file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= MAX_HEADER:
            raise ValueError("it has no header of safetensors")
        header = json.loads(stream.read(length))
        return {name: tensor for name, tensor in header.items() if name != "__metadata__"}
