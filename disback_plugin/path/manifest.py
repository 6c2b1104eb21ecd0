"""The manifest `path.json`: what a degradation path holds. Plain JSON, validated on reading."""

import math
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import ConfigError, PathError
from disback_plugin.sealed import digest, read_sealed, write_sealed

FILE_NAME = "path.json"
FORMAT_VERSION: Literal[3] = 3
READABLE = (1, 2, 3)
TEACHER_FILE: Literal["teacher.safetensors"] = "teacher.safetensors"
AGAIN = "restore the folder from a copy, or record the path again"

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Header = Annotated[int | None, Field(gt=8)]
Length = Annotated[float, Field(ge=0, lt=math.inf)]


class NodeEntry(StrictModel):
    """One node. `step`: recording steps before it was kept; distances: see NodePrecision.

    header: bytes of the file that `sha256` is of, where the rest has digests of its own (see
    `node_file.py`); None in format version 1, where it is of the whole file.
    """

    index: int = Field(ge=1)
    step: int = Field(ge=1)
    file: str = Field(pattern=r"^node_\d{4}\.safetensors$")
    bytes: int = Field(gt=0)
    sha256: Digest
    header: Header = None
    distance: Length
    bf16_distance: Length | None
    bf16_survives: Annotated[float, Field(ge=0, le=1)] | None


class TensorRow(StrictModel):
    """What every node has under a name."""

    dtype: str = Field(pattern=r"^[a-z]\w*$")
    shape: tuple[Annotated[int, Field(ge=0)], ...]


class TeacherEntry(StrictModel):
    """Node 0: who it is; `file` only where the teacher's tensors are kept in the folder as well.

    sha256, header: of that file, as a node's.
    """

    fingerprint: Digest
    hashes: dict[str, str]
    file: Literal["teacher.safetensors"] | None = None
    sha256: Digest | None = None
    header: Header = None


class Manifest(StrictModel):
    """Everything but the tensors. `method` names the adapter that recorded the path."""

    format_version: Literal[1, 2, 3]
    method: str
    codec: str
    complete: bool
    recording: dict[str, Any]
    tensors: dict[str, TensorRow]
    teacher: TeacherEntry
    nodes: tuple[NodeEntry, ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every tensor, by name."""
        return {name: row.shape for name, row in self.tensors.items()}

    def digest(self) -> str:
        """The same for the same path alone: it covers every node's own digest."""
        return digest(self.model_dump(mode="json"))

    def recording_id(self, num_nodes: int) -> str:
        """What tells a recording from any other: its teacher, and the nodes it had by then."""
        nodes = [(node.step, node.sha256) for node in self.nodes[:num_nodes]]
        return digest([self.teacher.fingerprint, self.codec, nodes])


def read_manifest(folder: Path) -> Manifest:
    """Raises PathError, naming the file and the reason, for anything but a valid manifest."""
    file = folder / FILE_NAME
    if not folder.is_file() and not os.path.lexists(file):
        raise PathError(f"{folder} is no degradation path: it has no {FILE_NAME}")
    data = read_sealed(file, PathError, AGAIN)
    version = data.get("format_version")
    if version not in READABLE:
        raise PathError(
            f"{file} has format version {version!r}; this release reads versions "
            f"{READABLE[0]} to {READABLE[-1]}: use the release that wrote it, or record the "
            "path again"
        )
    try:
        manifest = parse_settings(Manifest, data, str(file))
    except ConfigError as error:
        raise PathError(f"{file} is damaged: {error}; {AGAIN}") from None
    for position, node in enumerate(manifest.nodes, start=1):
        if node.index != position:
            raise PathError(f"{file}: entry {position} is node {node.index}: a node is missing")
    steps = [node.step for node in manifest.nodes]
    if steps != sorted(set(steps)):
        raise PathError(f"{file} is damaged: its nodes' steps {steps} do not rise; {AGAIN}")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest atomically."""
    write_sealed(folder / FILE_NAME, manifest.model_dump(mode="json"))
