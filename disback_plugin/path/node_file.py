"""A node's file: plain safetensors, with a checksum of every chunk of its tensors in the header.

The manifest holds the header's own SHA-256, which thereby seals all: bytes are looked at once,
while they are written, and who reads a part verifies the chunks of that part alone. Chunks have an
XXH3 of 128 bits: no damage passes it by chance, and it is read as fast as memory is. It is no proof
against who means to deceive; who could write the node could write the manifest too.

A chunk has 128 KiB: beyond 64 KiB xxhash lets other threads run meanwhile, a training loop's too,
and a rank that reads its part alone looks at two chunks more than that at most.

Files of earlier format versions: 2 has a SHA-256 of every 64 KiB, 1 one of the whole, which is
verified before anything is read.
"""

import base64
import copy
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
import xxhash
from safetensors.torch import save
from torch import Tensor

from disback_plugin import files
from disback_plugin.errors import PathError
from disback_plugin.path.behind import Helper
from disback_plugin.tensors import raw_bytes

CHUNK = 1 << 17  # bytes of a tensor under one digest; a tensor's first chunk begins with it
CHUNKS = 1 << 12, 1 << 24  # what a file may have, at least and at most
DIGESTS = "xxh3_128 of chunks"  # in the header: base64 of all, in the order of the data
_DIGEST_OF: dict[str, Callable[[memoryview], bytes]] = {
    DIGESTS: xxhash.xxh3_128_digest,
    "sha256 of chunks": lambda chunk: hashlib.sha256(chunk).digest(),  # format version 2
}
_SIZE = xxhash.xxh3_128().digest_size
_Digests = dict[str, list[bytes]]
_SMALL = 1 << 18  # bytes that are sooner written than handed over


class Seal(NamedTuple):
    """What the manifest keeps of a file: sizes in bytes, of all and of the header; its digest."""

    bytes: int
    header: int
    sha256: str


# -- writing --------------------------------------------------------------------------------------
class NodeWriter:
    """Writes tensor after tensor, large ones behind the caller."""

    def __init__(self, stream: IO[bytes], helper: Helper, room: int) -> None:
        self._stream, self._helper, self._room = stream, helper, room
        self._rows: dict[str, dict[str, Any]] = {}
        self._digests = bytearray()
        self._end = 0
        stream.seek(room)

    def add(self, name: str, value: Tensor) -> None:
        """Begin to write a tensor, once the one before it is written; it must not change now."""
        data = raw_bytes(value)
        begin, self._end = self._end, self._end + len(data)
        self._rows[name] = {
            "dtype": _dtype_name(value.dtype),
            "shape": list(value.shape),
            "data_offsets": [begin, self._end],
        }
        self._helper.wait()
        if len(data) < _SMALL:
            self._stream.write(data)
        else:
            self._helper.give(lambda: self._write(data))
        for low in range(0, len(data), CHUNK):
            self._digests += xxhash.xxh3_128_digest(data[low : low + CHUNK])

    def _write(self, data: memoryview) -> None:
        begin = self._stream.tell()
        self._stream.write(data)
        if hasattr(os, "posix_fadvise"):  # the disk begins now, so the last `fsync` is short
            where = self._stream.fileno(), begin, len(data)
            with suppress(OSError):  # a file system that takes no advice
                os.posix_fadvise(*where, os.POSIX_FADV_DONTNEED)

    def finish(self) -> Seal:
        """Write the header, into the room before the data."""
        self._helper.wait()
        digests = base64.b64encode(self._digests).decode()
        header = {"__metadata__": {DIGESTS: digests, "chunk": str(CHUNK)}, **self._rows}
        text = json.dumps(header, separators=(",", ":")).encode().ljust(self._room - 8)
        assert len(text) == self._room - 8, "a codec stored more than its node"
        head = len(text).to_bytes(8, "little") + text
        self._stream.seek(0)
        self._stream.write(head)
        return Seal(self._room + self._end, self._room, hashlib.sha256(head).hexdigest())


@contextmanager
def writing(file: Path, due: Mapping[str, Tensor]) -> Iterator[NodeWriter]:
    """Replace `file` atomically by what the context writes; nothing where it raises.

    due: names and tensors; what is written is one tensor a name, of no more bytes.
    """
    temp = files.temp_for(file)
    try:
        with files.naming(file):
            with temp.open("wb") as stream, _helper() as helper:
                yield NodeWriter(stream, helper, _room_for(due))
            files.commit(temp, file)
    except BaseException:
        files.remove(temp)
        raise


@contextmanager
def _helper() -> Iterator[Helper]:
    helper = Helper("disback: writing")
    try:
        yield helper
    finally:
        helper.end()


def write_whole(file: Path, tensors: Mapping[str, Tensor]) -> Seal:
    """Replace `file` by `tensors` as they are."""
    with writing(file, tensors) as writer:
        for name in file_order(tensors):
            writer.add(name, tensors[name].detach().cpu())
        return writer.finish()


def file_order(tensors: Mapping[str, Tensor]) -> list[str]:
    """As safetensors lays tensors out: wide numbers first, then by name."""
    return sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))


def _room_for(due: Mapping[str, Tensor]) -> int:
    """Bytes that a header of such tensors fits into, a multiple of 8."""
    sizes = [value.numel() * max(2, value.element_size()) for value in due.values()]
    chunks = sum(1 + size // CHUNK for size in sizes)
    rows = sum(len(json.dumps([name, *value.shape])) + 80 for name, value in due.items())
    rows += 2 * len(due) * len(str(sum(sizes)))  # where each begins and ends
    return 8 * (32 + (rows + 4 * (chunks * _SIZE // 3 + 1)) // 8)


@lru_cache
def _dtype_name(dtype: torch.dtype) -> str:
    return _header(save({"": torch.empty(0, dtype=dtype)}))[""]["dtype"]


def _header(head: bytes) -> dict[str, Any]:
    return json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])


# -- reading --------------------------------------------------------------------------------------
class NodeFile:
    """A file to read. `mapped`: its tensors, unverified; `verified`: bytes that were looked at.

    header, sha256: as the manifest has them, None in format version 1. PathError where it is not
    what was written: of the header at once, of a chunk when it is first read.
    """

    def __init__(self, file: Path, header: int | None, sha256: str) -> None:
        self.file, self.verified = file, 0
        if header is None and files.sha256(file) != sha256:
            raise self._damage()
        self._digest_of, self._chunk, self._digests = _DIGEST_OF[DIGESTS], CHUNK, _Digests()
        if header is not None:
            self._read_digests(header, sha256)
        self.mapped = files.map_tensors(file, PathError)
        self._seen: dict[str, set[int]] = {}  # chunks that are verified, of tensors
        self._known = set(self.mapped) if header is None else set[str]()
        self._whole = {*self._known}  # tensors that are verified

    def afresh(self) -> "NodeFile":
        """The same file, of which nothing was looked at yet but what was before it was opened."""
        again = copy.copy(self)
        again.verified, again._seen, again._whole = 0, {}, {*self._known}
        return again

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        value = self.mapped[name]
        self.verify(name, 0, value.numel())
        return value

    def part(self, name: str, begin: int, end: int) -> Tensor:
        """The flat values of a tensor from `begin` to `end`; no other chunk is looked at."""
        self.verify(name, begin, end)
        return self.mapped[name].view(-1)[begin:end]

    def is_verified(self, name: str) -> bool:
        """Whether all of a tensor is known to be what was written."""
        return name in self._whole

    def verify(self, name: str, begin: int, end: int) -> None:
        """Raise PathError unless the chunks under these flat values are what was written."""
        if name in self._whole or begin == end:
            return
        value, digests = self.mapped[name], self._digests[name]
        data, width, digest_of = raw_bytes(value), value.element_size(), self._digest_of
        seen = self._seen.setdefault(name, set())
        size = self._chunk
        for number in range(begin * width // size, -(-end * width // size)):
            if number in seen:
                continue
            chunk = data[number * size : (number + 1) * size]
            self.verified += len(chunk)
            if digest_of(chunk) != digests[number]:
                raise self._damage(f" ({name!r}, bytes from {number * size:,})")
            seen.add(number)
        if len(seen) == len(digests):
            self._whole.add(name)

    def _read_digests(self, size: int, sha256: str) -> None:
        with self.file.open("rb") as stream:
            head = stream.read(size)
        self.verified = len(head)
        if hashlib.sha256(head).hexdigest() != sha256:
            raise self._damage(" (its header)")
        rows = _header(head)
        kept = rows.pop("__metadata__", {})
        kind = next((kind for kind in _DIGEST_OF if kind in kept), None)
        if kind is None:
            raise self._unknown(f"checksums of a kind that is not known, of {sorted(kept)}")
        self._digest_of, self._chunk = _DIGEST_OF[kind], self._chunk_size(kept.get("chunk"))
        digests = base64.b64decode(kept[kind])
        length = len(self._digest_of(memoryview(b"")))
        each = (digests[place : place + length] for place in range(0, len(digests), length))
        num = 0
        for name, row in sorted(rows.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = row["data_offsets"]
            due = -(-(end - begin) // self._chunk)
            self._digests[name], num = list(islice(each, due)), num + due
        if num * length != len(digests):
            raise self._unknown(f"{len(digests)} bytes of checksums for {num} chunks")

    def _chunk_size(self, text: object) -> int:
        size = int(text) if isinstance(text, str) and re.fullmatch("[0-9]{1,9}", text) else 0
        if size & (size - 1) or not CHUNKS[0] <= size <= CHUNKS[1]:
            raise self._unknown(
                f"a chunk of {text!r} bytes, where a power of two from {CHUNKS[0]:,} to "
                f"{CHUNKS[1]:,} is due"
            )
        return size

    def _unknown(self, what: str) -> PathError:
        return PathError(
            f"{self.file} has {what}: a later release, or something else, has written it"
        )

    def _damage(self, where: str = "") -> PathError:
        return PathError(
            f"{self.file} is damaged: its checksum is not the one it was written with{where}"
        )
