"""Who the teacher is: its tensors, and a fingerprint that tells it from any other network."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.errors import PathError


def tensor_hash(value: Tensor) -> str:
    """16 hex digits of SHA-256 over a tensor's dtype, shape and bytes."""
    value = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{value.dtype}{tuple(value.shape)}".encode())
    digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class TeacherReference:
    """Node 0 of a path.

    tensors: what every node has too: same names, same shapes (CPU). A `delta` is relative to them.
    hashes: per tensor of the teacher; of its base weights where nodes are LoRA states.
    """

    tensors: dict[str, Tensor]
    hashes: dict[str, str]

    @classmethod
    def of(
        cls, tensors: Mapping[str, Tensor], identity: Mapping[str, Tensor] | None = None
    ) -> "TeacherReference":
        """Reference with private CPU copies of `tensors`; `identity` (default: them) is hashed."""
        own = {name: value.detach().cpu().clone() for name, value in tensors.items()}
        hashed = own if identity is None else identity
        return cls(own, {name: tensor_hash(value) for name, value in hashed.items()})

    @property
    def fingerprint(self) -> str:
        """One hex SHA-256 over all names and hashes."""
        lines = "\n".join(f"{name} {value}" for name, value in sorted(self.hashes.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def table(self) -> dict[str, dict[str, object]]:
        """Name -> dtype and shape, as the manifest keeps it."""
        return {
            name: {"dtype": str(value.dtype).removeprefix("torch."), "shape": list(value.shape)}
            for name, value in self.tensors.items()
        }


def describe_difference(recorded: Mapping[str, str], given: Mapping[str, str]) -> str:
    """How two teachers differ, by the names and number of their tensors."""
    missing = sorted(set(recorded) - set(given))
    extra = sorted(set(given) - set(recorded))
    if missing or extra:
        return (
            f"{len(missing)} of its {len(recorded)} tensors are missing (first: {missing[:3]}), "
            f"{len(extra)} are new (first: {extra[:3]})"
        )
    changed = [name for name in recorded if recorded[name] != given[name]]
    return f"{len(changed)} of {len(recorded)} tensors differ (first: {changed[:3]})"


def check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], what: str) -> None:
    """Raise PathError unless `given` has exactly the names and shapes of `expected`."""
    missing = sorted(set(expected) - set(given))
    extra = sorted(set(given) - set(expected))
    if missing or extra:
        raise PathError(
            f"{what}: tensor names do not match: missing {missing[:3]} ({len(missing)} in all), "
            f"unexpected {extra[:3]} ({len(extra)} in all)"
        )
    for name, value in expected.items():
        if value.shape != given[name].shape:
            raise PathError(
                f"{what}: tensor {name!r} has shape {tuple(given[name].shape)}, "
                f"expected {tuple(value.shape)}"
            )
