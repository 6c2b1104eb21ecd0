"""A node as it lies in its file: mapped, verified and decoded where it is looked at."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from torch import Tensor

from disback_plugin.path.behind import CheckStop
from disback_plugin.path.codecs import NodeCodec
from disback_plugin.path.node_file import NodeFile

Parts = Mapping[str, tuple[int, int]]  # of tensors: flat values, from and to


class StoredNode(Mapping[str, Tensor]):
    """Name -> tensor, decoded anew at every look; `flat` decodes a few values at a time.

    No byte is decoded that is not verified, of the teacher neither where that is a StoredNode; what
    was verified is not hashed again. teacher: empty where the codec needs none.
    """

    def __init__(
        self,
        file: NodeFile,
        shapes: Mapping[str, Sequence[int]],
        codec: NodeCodec,
        teacher: Mapping[str, Tensor],
    ) -> None:
        self.file, self.shapes = file, shapes
        self._codec = codec
        self._base = teacher if isinstance(teacher, StoredNode) else None
        self._teacher = teacher if self._base is None else self._base.file.mapped

    def verify(self, parts: Parts | None = None, check_stop: CheckStop = lambda: None) -> None:
        """Raise PathError where the node, or those `parts` of it, are not what was written."""
        for name, shape in self.shapes.items():
            check_stop()
            begin, end = (0, math.prod(shape)) if parts is None else parts.get(name, (0, 0))
            self._verify(name, begin, end)

    def flat(self, name: str) -> Callable[[int, int], Tensor]:
        """Of one tensor: its flat values from one place to another."""
        stored, teacher = self._of(name)
        if self._is_verified(name):
            return partial(self._codec.decode_range, stored, teacher)

        def values(begin: int, end: int) -> Tensor:
            self._verify(name, begin, end)
            return self._codec.decode_range(stored, teacher, begin, end)

        return values

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        stored = self.file.mapped[name]
        return stored, self._teacher.get(name, stored)

    def _verify(self, name: str, begin: int, end: int) -> None:
        self.file.verify(name, *self._codec.stored_range(*self._of(name), begin, end))
        if self._base is not None:
            self._base.file.verify(name, begin, end)

    def _is_verified(self, name: str) -> bool:
        base = self._base
        return self.file.is_verified(name) and (base is None or base.file.is_verified(name))

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        return self.flat(name)(0, math.prod(shape)).view(tuple(shape))

    def __contains__(self, name: object) -> bool:
        return name in self.shapes  # which reads nothing

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def verified(
    node: Mapping[str, Tensor], parts: Parts | None = None, check_stop: CheckStop = lambda: None
) -> Mapping[str, Tensor]:
    """`node`, once all that will be looked at of it is verified; what is no file's is as it is."""
    if isinstance(node, StoredNode):
        node.verify(parts, check_stop)
    return node
