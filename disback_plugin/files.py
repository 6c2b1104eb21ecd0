"""Files that are whole or absent: temp file in the same folder, fsync, rename, fsync folder."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from disback_plugin.errors import DisBackError, PathError

TEMP_PREFIX = ".tmp-"


def _temp_for(file: Path) -> Path:
    return file.with_name(f"{TEMP_PREFIX}{os.getpid()}-{file.name}")


def sync(target: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _commit(temp: Path, file: Path) -> None:
    sync(temp)
    os.replace(temp, file)
    sync(file.parent)


def write_json(file: Path, data: Any) -> None:
    """Replace `file` by `data` as indented JSON, atomically."""
    write_text(file, json.dumps(data, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace `file` by `text` in UTF-8, atomically."""
    temp = _temp_for(file)
    temp.write_text(text, encoding="utf-8")
    _commit(temp, file)


def write_tensors(
    file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> tuple[int, str]:
    """Replace `file` by `tensors` as safetensors, atomically; returns (bytes, sha256)."""
    temp = _temp_for(file)
    temp.touch()
    mode = temp.stat().st_mode  # safetensors makes files that only their owner may read
    # safetensors refuses tensors that share memory (tied weights), so each gets its own
    save_file(
        {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()},
        temp,
        metadata,
    )
    temp.chmod(mode)
    size, digest = temp.stat().st_size, sha256(temp)
    _commit(temp, file)
    return size, digest


def read_tensors(
    file: Path, error: type[DisBackError] = PathError, *, digest: str | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; `error` where it is missing or not whole.

    digest: its SHA-256 when it was written, as `write_tensors` gave it.
    """
    if digest is not None and file.is_file() and sha256(file) != digest:
        raise error(f"{file} is damaged: its SHA-256 is not the one it was written with")
    with _opened(file, error) as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, stream.metadata() or {}


def read_metadata(file: Path, error: type[DisBackError] = PathError) -> dict[str, str]:
    """Metadata alone of a safetensors file: no tensor is read."""
    with _opened(file, error) as stream:
        return stream.metadata() or {}


@contextmanager
def _opened(file: Path, error: type[DisBackError]) -> Iterator[Any]:
    if not file.is_file():
        raise error(f"{file} is missing")
    try:
        with safe_open(file, framework="pt") as stream:
            yield stream
    except SafetensorError as problem:
        raise error(f"{file} is no whole safetensors file: {problem}") from None


def sha256(file: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces of 4 MiB."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def leftover_temps(folder: Path) -> list[Path]:
    """Temp files that a killed writer left behind."""
    return sorted(folder.glob(f"{TEMP_PREFIX}*"))
