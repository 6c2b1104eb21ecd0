"""Reading one node file: size, SHA-256 and format are checked before a tensor is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from disback_plugin import files
from disback_plugin.errors import PathError
from disback_plugin.path.manifest import NodeEntry


def read_node(
    folder: Path, entry: NodeEntry, table: Mapping[str, Mapping[str, Any]]
) -> dict[str, Tensor]:
    """The stored tensors of a node, with exactly the names and shapes of the manifest's table."""
    file = folder / entry.file
    stored = read_tensors(file, entry.sha256, entry.bytes)
    missing, extra = sorted(set(table) - set(stored)), sorted(set(stored) - set(table))
    if missing or extra:
        raise PathError(f"{file}: tensors missing {missing[:3]}, unexpected {extra[:3]}")
    for name, value in stored.items():
        if list(value.shape) != table[name]["shape"]:
            raise PathError(
                f"{file}: tensor {name!r} has shape {tuple(value.shape)}, the manifest says "
                f"{tuple(table[name]['shape'])}"
            )
    return stored


def check_file(file: Path, size: int | None) -> None:
    """Raise PathError if a listed file is missing or of another size."""
    if not file.exists():
        raise PathError(f"{file} is missing, though the manifest lists it")
    if size is not None and file.stat().st_size != size:
        raise PathError(f"{file} is torn: {file.stat().st_size} bytes, the manifest says {size}")


def read_tensors(file: Path, digest: str | None, size: int | None = None) -> dict[str, Tensor]:
    """All tensors of a safetensors file; raises PathError where it is not what was written."""
    check_file(file, size)
    if digest is not None and files.sha256(file) != digest:
        raise PathError(f"{file} is damaged: its SHA-256 is not the manifest's")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise PathError(f"{file} is no safetensors file: {error}") from None
