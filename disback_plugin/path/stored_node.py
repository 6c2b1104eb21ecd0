"""A node as it lies in its file: mapped, verified and decoded where it is looked at."""

from collections.abc import Callable, Iterator, Mapping

from torch import Size, Tensor

from disback_plugin.path.behind import CheckStop
from disback_plugin.path.codecs import NodeCodec
from disback_plugin.path.manifest import TensorRow
from disback_plugin.path.node_file import NodeFile

Parts = Mapping[str, tuple[int, int]]  # of tensors: flat values, from and to


class StoredNode(Mapping[str, Tensor]):
    """Name -> tensor, decoded anew at every look; `flat` gives a few values of one at a time.

    teacher: empty where the codec needs none.
    """

    def __init__(
        self,
        file: NodeFile,
        table: Mapping[str, TensorRow],
        codec: NodeCodec,
        teacher: Mapping[str, Tensor],
    ) -> None:
        self.file, self.shapes = file, {name: Size(row.shape) for name, row in table.items()}
        self._codec, self._teacher = codec, teacher

    def verify(self, parts: Parts | None = None, check_stop: CheckStop = lambda: None) -> None:
        """Raise PathError where the node, or those `parts` of it, are not what was written."""
        for name, shape in self.shapes.items():
            check_stop()
            begin, end = (0, shape.numel()) if parts is None else parts.get(name, (0, 0))
            self.file.part(name, begin, end)

    def flat(self, name: str) -> Callable[[int, int], Tensor]:
        """Of one tensor: its flat values from one place to another, of chunks that are verified."""
        teacher = self._teacher.get(name)

        def values(begin: int, end: int) -> Tensor:
            stored = {name: self.file.part(name, begin, end)}
            base = {} if teacher is None else {name: teacher.reshape(-1)[begin:end]}
            return self._codec.decode(stored, base)[name]

        return values

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        return self.flat(name)(0, shape.numel()).view(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
