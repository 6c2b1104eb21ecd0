"""A node's file: plain safetensors, with a SHA-256 of every chunk of its tensors in the header.

The manifest holds the header's own digest, which thereby seals all: bytes are hashed once, while
they are written, and who reads a part verifies the chunks of that part alone. A file of format
version 1 has one digest, of the whole: it is verified before anything of it is read.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from disback_plugin import files
from disback_plugin.errors import PathError
from disback_plugin.path.behind import Helper
from disback_plugin.tensors import raw_bytes

CHUNK = 1 << 16  # bytes of a tensor under one digest; a tensor's first chunk begins with it
DIGESTS = "sha256 of chunks"  # in the header: base64 of all, in the order of the data
_SIZE = hashlib.sha256().digest_size


class Seal(NamedTuple):
    """What the manifest keeps of a file: sizes in bytes, of all and of the header; its digest."""

    bytes: int
    header: int
    sha256: str


# -- writing --------------------------------------------------------------------------------------
class NodeWriter:
    """Writes tensor after tensor and hashes each meanwhile, both behind the caller."""

    def __init__(self, stream: IO[bytes], helpers: tuple[Helper, Helper], room: int) -> None:
        self._stream, self._helpers, self._room = stream, helpers, room
        self._rows: dict[str, dict[str, Any]] = {}
        self._digests = bytearray()
        self._end = 0
        stream.seek(room)

    def add(self, name: str, value: Tensor) -> None:
        """Begin to write a tensor, once the one before it is written; it must not change now."""
        self._wait()
        data = raw_bytes(value)
        begin, self._end = self._end, self._end + len(data)
        self._rows[name] = {
            "dtype": _dtype_name(value.dtype),
            "shape": list(value.shape),
            "data_offsets": [begin, self._end],
        }
        if data:
            writer, hasher = self._helpers
            writer.give(lambda: self._stream.write(data))
            hasher.give(lambda: self._hash(data))

    def finish(self) -> Seal:
        """Write the header, into the room before the data."""
        self._wait()
        digests = base64.b64encode(self._digests).decode()
        header = {"__metadata__": {DIGESTS: digests, "chunk": str(CHUNK)}, **self._rows}
        text = json.dumps(header, separators=(",", ":")).encode().ljust(self._room - 8)
        assert len(text) == self._room - 8, "a codec stored more than its node"
        head = len(text).to_bytes(8, "little") + text
        self._stream.seek(0)
        self._stream.write(head)
        return Seal(self._room + self._end, self._room, hashlib.sha256(head).hexdigest())

    def _hash(self, data: memoryview) -> None:
        for begin in range(0, len(data), CHUNK):
            self._digests += hashlib.sha256(data[begin : begin + CHUNK]).digest()

    def _wait(self) -> None:
        for helper in self._helpers:
            helper.wait()


@contextmanager
def writing(file: Path, due: Mapping[str, Tensor]) -> Iterator[NodeWriter]:
    """Replace `file` atomically by what the context writes; nothing where it raises.

    due: names and tensors; what is written is one tensor a name, of no more bytes.
    """
    temp = files.temp_for(file)
    try:
        with files.naming(file):
            with temp.open("wb") as stream, _helpers() as helpers:
                yield NodeWriter(stream, helpers, _room_for(due))
            files.commit(temp, file)
    except BaseException:
        files.remove(temp)
        raise


@contextmanager
def _helpers() -> Iterator[tuple[Helper, Helper]]:
    writer, hasher = Helper("disback: writing"), Helper("disback: hashing")
    try:
        yield writer, hasher
    finally:
        writer.end()
        hasher.end()


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
    chunks = [1 + value.numel() * max(2, value.element_size()) // CHUNK for value in due.values()]
    rows = sum(len(json.dumps(name)) + 128 + 20 * value.dim() for name, value in due.items())
    return 8 * (32 + (rows + 4 * (sum(chunks) * _SIZE // 3 + 1)) // 8)


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
        self._digests: dict[str, bytes] | None = None
        self._seen: dict[str, set[int]] = {}  # chunks that are verified
        if header is None:
            if files.sha256(file) != sha256:
                raise self._damage()
        else:
            self._digests = self._read_digests(header, sha256)
        self.mapped = files.map_tensors(file, PathError)

    def read(self, name: str) -> Tensor:
        """A whole tensor."""
        value = self.mapped[name]
        self.verify(name, 0, value.numel())
        return value

    def part(self, name: str, begin: int, end: int) -> Tensor:
        """The flat values of a tensor from `begin` to `end`; no other chunk is looked at."""
        self.verify(name, begin, end)
        return self.mapped[name].view(-1)[begin:end]

    def verify(self, name: str, begin: int, end: int) -> None:
        """Raise PathError unless the chunks under these flat values are what was written."""
        if self._digests is None or begin == end:
            return
        value, digests = self.mapped[name], self._digests[name]
        data, width = raw_bytes(value), value.element_size()
        seen = self._seen.setdefault(name, set())
        due = range(begin * width // CHUNK, -(-end * width // CHUNK))
        for number in set(due) - seen if seen else due:
            chunk = data[number * CHUNK : (number + 1) * CHUNK]
            self.verified += len(chunk)
            if hashlib.sha256(chunk).digest() != digests[number * _SIZE : (number + 1) * _SIZE]:
                raise self._damage(f" ({name!r}, bytes from {number * CHUNK:,})")
            seen.add(number)

    def _read_digests(self, size: int, sha256: str) -> dict[str, bytes]:
        with self.file.open("rb") as stream:
            head = stream.read(size)
        self.verified = len(head)
        if hashlib.sha256(head).hexdigest() != sha256:
            raise self._damage(" (its header)")
        rows = _header(head)
        digests = base64.b64decode(rows.pop("__metadata__")[DIGESTS])
        found, place = {}, 0
        for name, row in sorted(rows.items(), key=lambda item: item[1]["data_offsets"]):
            begin, end = row["data_offsets"]
            first, place = place, place + _SIZE * -(-(end - begin) // CHUNK)
            found[name] = digests[first:place]
        return found

    def _damage(self, where: str = "") -> PathError:
        return PathError(
            f"{self.file} is damaged: its SHA-256 is not the one it was written with{where}"
        )
