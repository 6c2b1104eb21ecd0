"""Is a path whole, and what of it can be saved after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from disback_plugin.counting import count
from disback_plugin.errors import PathError
from disback_plugin.files import leftover_temps
from disback_plugin.path.node_file import check_file, read_node, read_tensors

if TYPE_CHECKING:
    from disback_plugin.path.degradation_path import DegradationPath


def find_problems(path: DegradationPath) -> list[str]:
    """Damaged or missing files and leftovers of a killed writer, one sentence each."""
    problems = list(_damaged_nodes(path).values())
    teacher = path.manifest.teacher
    if teacher.file:
        try:
            read_tensors(path.folder / teacher.file, teacher.sha256)
        except PathError as error:
            problems.append(str(error))
    return problems + [f"{file}: left behind by a killed writer" for file in _strays(path)]


def check_files(path: DegradationPath) -> None:
    """See `DegradationPath.check_files`: damage is found now, not when a node is due."""
    for problem in wrong_sizes(path).values():
        raise PathError(problem)


def wrong_sizes(path: DegradationPath) -> dict[int, str]:
    """See `DegradationPath.wrong_sizes`."""
    wrong = {}
    for entry in path.nodes:
        try:
            check_file(path.folder / entry.file, entry.bytes)
        except PathError as error:
            wrong[entry.index] = str(error)
    return wrong


def remove_strays(path: DegradationPath) -> list[str]:
    """Delete temp files and unlisted nodes of a killed writer; returns what was dropped."""
    dropped = []
    for file in _strays(path):
        file.unlink()
        dropped.append(f"{file.name}: left behind by a killed writer")
    return dropped


def repair(path: DegradationPath) -> list[str]:
    """See `DegradationPath.repair`."""
    dropped = remove_strays(path)
    damaged = _damaged_nodes(path)
    first = min(damaged, default=None)
    if first is not None and first != len(path):
        raise PathError(
            f"{damaged[first]}. Only a torn last node can be dropped; record again, or keep the "
            f"{count(first - 1, 'node')} before it, in Python: "
            f"DegradationPath.open(folder).truncate({first - 1})"
        )
    if first is not None:
        dropped.append(damaged[first])
        path.truncate(len(path) - 1)
    return dropped


def _damaged_nodes(path: DegradationPath) -> dict[int, str]:
    damaged = {}
    for entry in path.nodes:
        try:
            read_node(path.folder, entry, path.manifest.tensors)
        except PathError as error:
            damaged[entry.index] = str(error)
    return damaged


def _strays(path: DegradationPath) -> list[Path]:
    listed = {entry.file for entry in path.nodes}
    nodes = [file for file in path.folder.glob("node_*.safetensors") if file.name not in listed]
    return sorted([*nodes, *leftover_temps(path.folder)])
