"""Who the teacher is: its tensors, and a fingerprint that tells it from any other network."""

import hashlib
from collections.abc import Mapping

from torch import Tensor

from disback_plugin.errors import PathError
from disback_plugin.path.codecs import FullCodec
from disback_plugin.path.manifest import TEACHER_FILE, TeacherEntry
from disback_plugin.path.node_file import NodeFile, Seal
from disback_plugin.path.stored_node import StoredNode
from disback_plugin.tensors import misfit, same_bits, snapshot, tensor_hash, weights


class TeacherReference:
    """Node 0 of a path.

    held: its tensors, private copies until `share` finds the same in a file; or that file.
    hashes: per tensor of the teacher; of its base weights where nodes are LoRA states.
    """

    def __init__(self, held: Mapping[str, Tensor] | NodeFile, hashes: dict[str, str]) -> None:
        self.hashes = hashes
        self._file = held if isinstance(held, NodeFile) else None
        self._own = {} if isinstance(held, NodeFile) else dict(held)
        self._shapes = {name: tuple(value.shape) for name, value in self._held.items()}

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], identity: Mapping[str, Tensor] | None = None
    ) -> "TeacherReference":
        """Reference with private CPU copies of `tensors`; `identity` (default: them) is hashed."""
        own = snapshot(weights(tensors))
        hashed = own if identity is None else identity
        return cls(own, {name: tensor_hash(value) for name, value in hashed.items()})

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What every node has too: same names, same shapes (CPU). A `delta` is relative to them.

        Of a file each time a look of its own, which verifies what it comes to once: what is mapped
        is whatever lies on the disk when memory is short.
        """
        if self._file is None:
            return self._own
        return StoredNode(self._file.afresh(), self._shapes, FullCodec(), {})

    def share(self, file: NodeFile) -> bool:
        """Give up the copies for `file`, which is the same bit for bit; False where it is not.

        A mapped file is in memory once a machine, however many ranks look at it.
        """
        mapped, held = file.mapped, self._held
        if mapped.keys() != held.keys():
            return False
        if not all(same_bits(value, mapped[name]) for name, value in held.items()):
            return False
        self._own.update(mapped)  # for whoever looks at them now
        self._file = file
        return True

    @property
    def _held(self) -> Mapping[str, Tensor]:
        return self._own if self._file is None else self._file.mapped

    @property
    def fingerprint(self) -> str:
        """One hex SHA-256 over all names and hashes."""
        lines = "\n".join(f"{name} {value}" for name, value in sorted(self.hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def entry(self, kept: Seal | None) -> TeacherEntry:
        """What the manifest says of it; kept: of the file with its tensors, where there is one."""
        sealed = (
            {"file": TEACHER_FILE, "sha256": kept.sha256, "header": kept.header} if kept else {}
        )
        return TeacherEntry(fingerprint=self.fingerprint, hashes=self.hashes, **sealed)

    def table(self) -> dict[str, dict[str, object]]:
        """Name -> dtype and shape, as the manifest keeps it."""
        return {
            name: {"dtype": _dtype(value), "shape": list(value.shape)}
            for name, value in self._held.items()
        }


def check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Raise PathError unless `given` has the names and shapes of `expected`, and such numbers."""
    if problem := misfit(expected, given) or other_numbers(expected, given):
        raise PathError(f"{what}: tensors do not match: {problem}")


def other_numbers(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str | None:
    """A tensor that is whole where it should be real, or real where complex; None without one."""
    for name, due in expected.items():
        value = given[name]
        kinds = [(t.is_floating_point(), t.is_complex()) for t in (due, value)]
        if kinds[0] != kinds[1]:
            return f"{name!r} is {_dtype(value)}, expected {_dtype(due)}"
    return None


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
