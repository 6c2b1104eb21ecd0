"""A node as it lies in its file: checked, mapped into memory, decoded where it is looked at."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import Tensor

from disback_plugin.path.codecs import NodeCodec


class StoredNode(Mapping[str, Tensor]):
    """Name -> tensor, decoded anew at every look; `flat` decodes a few values at a time.

    stored: what is in the file; teacher: empty where the codec needs none.
    """

    def __init__(
        self,
        stored: Mapping[str, Tensor],
        shapes: Mapping[str, Sequence[int]],
        codec: NodeCodec,
        teacher: Mapping[str, Tensor],
    ) -> None:
        self.shapes = shapes
        self._stored, self._codec, self._teacher = stored, codec, teacher

    def flat(self, name: str) -> Callable[[int, int], Tensor]:
        """Of one tensor: its flat values from one place to another."""
        stored, codec = self._stored[name], self._codec
        teacher = self._teacher.get(name, stored)
        return lambda begin, end: codec.decode_range(stored, teacher, begin, end)

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        return self.flat(name)(0, math.prod(shape)).view(tuple(shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
