"""The manifest `path.json`: what a degradation path holds. Plain JSON, validated on reading."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import ConfigError, PathError
from disback_plugin.files import write_json

FILE_NAME = "path.json"
FORMAT_VERSION: Literal[1] = 1
TEACHER_FILE: Literal["teacher.safetensors"] = "teacher.safetensors"


class NodeEntry(StrictModel):
    """One node. `step`: recording steps before it was kept; distances: see NodePrecision."""

    index: int = Field(ge=1)
    step: int = Field(ge=1)
    file: str = Field(pattern=r"^node_\d{4}\.safetensors$")
    bytes: int
    sha256: str
    distance: float
    bf16_distance: float | None
    bf16_survives: float | None


class TeacherEntry(StrictModel):
    """Node 0: who it is; `file` only where the teacher's tensors are kept in the folder as well."""

    fingerprint: str
    hashes: dict[str, str]
    file: Literal["teacher.safetensors"] | None = None
    sha256: str | None = None


class Manifest(StrictModel):
    """Everything but the tensors. `method` names the adapter that recorded the path."""

    format_version: Literal[1]
    method: str
    codec: str
    complete: bool
    recording: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    teacher: TeacherEntry
    nodes: tuple[NodeEntry, ...]


def read_manifest(folder: Path) -> Manifest:
    """Raises PathError, naming the file and the reason, for anything but a valid manifest."""
    file = folder / FILE_NAME
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PathError(f"{folder} is no degradation path: it has no {FILE_NAME}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise PathError(f"{file} is damaged: {error}; record the path again") from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise PathError(
            f"{file} has format version {version!r}; this release reads version {FORMAT_VERSION}: "
            "use the release that wrote it, or record the path again"
        )
    try:
        manifest = parse_settings(Manifest, data, str(file))
    except ConfigError as error:
        raise PathError(f"{file} is damaged: {error}") from None
    for position, node in enumerate(manifest.nodes, start=1):
        if node.index != position:
            raise PathError(f"{file}: entry {position} is node {node.index}: a node is missing")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest atomically."""
    write_json(folder / FILE_NAME, manifest.model_dump(mode="json"))
