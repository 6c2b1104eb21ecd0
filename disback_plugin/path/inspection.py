"""A path's files against its manifest: read with every check, searched for damage, cleaned up."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from disback_plugin.errors import ConfigError, PathError, count
from disback_plugin.files import leftover_temps, remove
from disback_plugin.path.manifest import FILE_NAME, Manifest, NodeEntry, read_manifest
from disback_plugin.path.writer_lock import wait_for_writer
from disback_plugin.reading import require_regular

if TYPE_CHECKING:
    from torch import Tensor

    from disback_plugin.path.codecs import NodeCodec
    from disback_plugin.path.node_file import NodeFile
    from disback_plugin.path.reference import TeacherReference

logger = logging.getLogger("disback")


def holds_path(folder: Path) -> bool:
    """Whether a path with a node lies there; one without holds nothing. PathError if damaged."""
    wait_for_writer(folder)
    return os.path.lexists(folder / FILE_NAME) and bool(read_manifest(folder).nodes)


def clear_empty(folder: Path) -> None:
    """Delete what a recording without a node has left in its folder."""
    if os.path.lexists(folder / FILE_NAME):
        manifest = read_manifest(folder)
        assert not manifest.nodes
        if manifest.teacher.file:
            remove(folder / manifest.teacher.file)
        remove_strays(folder, manifest)
        remove(folder / FILE_NAME)


def codec_of(folder: Path, manifest: Manifest) -> "NodeCodec":
    """The codec that wrote the path; PathError where this release has none of that name."""
    from disback_plugin.path.codecs import get_codec

    try:
        return get_codec(manifest.codec)
    except ConfigError as error:
        raise PathError(f"{folder / FILE_NAME}: {error}") from None


def open_node(folder: Path, manifest: Manifest, entry: NodeEntry) -> "NodeFile":
    """A node's file, with exactly the names and shapes of the manifest's table."""
    from disback_plugin.tensors import misfit

    node = _open(folder / entry.file, entry.bytes, entry.header, entry.sha256)
    due, codec = manifest.shapes(), codec_of(folder, manifest)
    if problem := misfit(due, codec.unpacked(node.mapped, due)):
        raise PathError(f"{node.file} does not fit the manifest: {problem}")
    return node


def read_node(folder: Path, manifest: Manifest, entry: NodeEntry) -> "dict[str, Tensor]":
    """The stored tensors of a node, all of them verified."""
    node = open_node(folder, manifest, entry)
    return {name: node.read(name) for name in node.mapped}


def open_teacher(folder: Path, manifest: Manifest) -> "NodeFile | None":
    """The teacher's tensors where they are kept in the folder, else None."""
    kept = manifest.teacher
    if kept.file is None or kept.sha256 is None:
        return None
    return _open(folder / kept.file, None, kept.header, kept.sha256)


def read_teacher(folder: Path, manifest: Manifest) -> "dict[str, Tensor] | None":
    """The same, all of them verified."""
    kept = open_teacher(folder, manifest)
    return None if kept is None else {name: kept.read(name) for name in kept.mapped}


def share_teacher(folder: Path, manifest: Manifest, teacher: "TeacherReference") -> None:
    """See `DegradationPath.share_teacher`."""
    kept = manifest.teacher.file
    if kept is None:
        logger.info("%s keeps no teacher: each rank holds a copy of its own", folder)
        return
    try:
        found = open_teacher(folder, manifest)
        seen = "" if found and teacher.share(found) else f"{folder / kept} is damaged"
    except PathError as error:
        seen = str(error)
    if seen:
        logger.warning("%s; each rank holds a copy of its own", seen)


def teacher_problem(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the kept teacher; None where it is whole, or none is kept."""
    try:
        read_teacher(folder, manifest)
    except PathError as error:
        return str(error)
    return None


def wrong_sizes(folder: Path, manifest: Manifest) -> dict[int, str]:
    """What is wrong with a node by index, as far as sizes tell: cheap, unlike `find_problems`."""
    wrong = {}
    for entry in manifest.nodes:
        try:
            require_size(folder / entry.file, entry.bytes)
        except PathError as error:
            wrong[entry.index] = str(error)
    return wrong


def find_problems(folder: Path, manifest: Manifest) -> list[str]:
    """Damaged or missing files and leftovers of a killed writer, one sentence each."""
    problems = list(_damaged_nodes(folder, manifest).values())
    if problem := teacher_problem(folder, manifest):
        problems.append(problem)
    return problems + [_left(str(file)) for file in _strays(folder, manifest)]


def remove_strays(folder: Path, manifest: Manifest) -> list[str]:
    """Delete temp files and unlisted nodes of a killed writer; returns what was dropped."""
    dropped = []
    for file in _strays(folder, manifest):
        remove(file)
        dropped.append(_left(file.name))
    return dropped


def torn_last_node(folder: Path, manifest: Manifest) -> str | None:
    """What is wrong with the last node; PathError where an earlier one is damaged too."""
    damaged = _damaged_nodes(folder, manifest)
    first = min(damaged, default=None)
    if first is None:
        return None
    if first != len(manifest.nodes):
        raise PathError(
            f"{damaged[first]}. Only a torn last node can be dropped; record again, or keep the "
            f"{count(first - 1, 'node')} before it, in Python: "
            f"DegradationPath.open(folder).truncate({first - 1})"
        )
    return damaged[first]


def _open(file: Path, size: int | None, header: int | None, sha256: str) -> "NodeFile":
    from disback_plugin.path.node_file import NodeFile

    require_size(file, size)
    return NodeFile(file, header, sha256)


def require_size(file: Path, size: int | None) -> None:
    """Raise PathError unless the file is there, in that many bytes."""
    if not os.path.lexists(file):
        raise PathError(f"{file} is missing, though the manifest lists it")
    require_regular(file, PathError)
    if size is not None and file.stat().st_size != size:
        raise PathError(f"{file} is torn: {file.stat().st_size} bytes, the manifest says {size}")


def _damaged_nodes(folder: Path, manifest: Manifest) -> dict[int, str]:
    damaged = {}
    codec_of(folder, manifest)  # one that is not known is no fault of the nodes
    for entry in manifest.nodes:
        try:
            read_node(folder, manifest, entry)
        except PathError as error:
            damaged[entry.index] = str(error)
    return damaged


def _strays(folder: Path, manifest: Manifest) -> list[Path]:
    listed = {entry.file for entry in manifest.nodes}
    nodes = [file for file in folder.glob("node_*.safetensors") if file.name not in listed]
    return sorted([*nodes, *leftover_temps(folder)])


def _left(name: str) -> str:
    return f"{name}: left behind by a killed writer"
