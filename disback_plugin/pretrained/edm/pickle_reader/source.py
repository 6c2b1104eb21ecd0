"""Bytes of a file between two positions, taken in order and never beyond the end."""

import struct
from dataclasses import dataclass
from io import BufferedReader

from disback_plugin.errors import CheckpointError

LONGEST_LINE = 256  # characters of a name: of a global, a key, a tensor
LONGEST_TEXT = 1 << 24  # bytes; the longest real one is a module's source code, some 40 KB


@dataclass(frozen=True)
class Span:
    """Bytes that stay in the file until they are needed; start and length in bytes."""

    stream: BufferedReader
    start: int
    length: int

    def read_into(self, memory: memoryview) -> None:
        """Fill `memory`, of `length` bytes, from the file; the stream's position is kept."""
        back = self.stream.tell()
        self.stream.seek(self.start)
        if self.stream.readinto(memory) != self.length:
            raise CheckpointError(f"was truncated while it was read, at byte {self.start}")
        self.stream.seek(back)


class ByteSource:
    """Takes bytes in order from a span of a stream, which nothing else may move meanwhile."""

    def __init__(self, span: Span) -> None:
        self.stream = span.stream
        self.position = span.start
        self.end = span.start + span.length
        self.stream.seek(span.start)

    def take(self, length: int) -> bytes:
        """The next `length` bytes; CheckpointError where the file has fewer."""
        self._claim(length)
        data = self.stream.read(length)
        if len(data) != length:
            raise CheckpointError(f"was truncated while it was read, at byte {self.position}")
        return data

    def skip(self, length: int) -> Span:
        """The next `length` bytes, left where they are."""
        start = self.position
        self._claim(length)
        self.stream.seek(self.position)
        return Span(self.stream, start, length)

    def number(self, layout: str) -> int:
        """The next number, in `struct`'s layout of one value."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def text(self, length: int) -> str:
        """The next `length` bytes as UTF-8, as pickles write it."""
        if length > LONGEST_TEXT:
            raise CheckpointError(f"has a text of {length} bytes, no EDM checkpoint does")
        return self.take(length).decode("utf-8", "surrogatepass")

    def line(self) -> str:
        """The next line, without its end."""
        line = self.stream.readline(min(LONGEST_LINE, self.end - self.position))
        self.position += len(line)
        if not line.endswith(b"\n"):
            raise CheckpointError(f"damaged: a name without an end at byte {self.position}")
        return line[:-1].decode("utf-8")

    def _claim(self, length: int) -> None:
        left = self.end - self.position
        if length > left:
            raise CheckpointError(
                f"damaged or truncated: {length} bytes are due at byte {self.position}, "
                f"but {left} are left"
            )
        self.position += length
