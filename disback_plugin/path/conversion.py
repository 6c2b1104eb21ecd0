"""A path written again in another codec, beside the old one, which stays as it is."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from disback_plugin.aside import built_aside
from disback_plugin.errors import PathError
from disback_plugin.path.degradation_path import DegradationPath
from disback_plugin.path.groups import chunks
from disback_plugin.path.manifest import NodeEntry
from disback_plugin.path.precision import difference, is_measured, reals, relative, square_sum
from disback_plugin.path.reference import TeacherReference

CONVERTED = "converted_from"  # in a manifest's `recording`: the codecs that its nodes went through


@dataclass(frozen=True)
class ConvertedNode:
    """A node before and after; error: |after - before| / |before - teacher|, 2-norms."""

    before: NodeEntry
    after: NodeEntry
    error: float


def convert(
    path: DegradationPath, folder: Path, codec: str, tell: Callable[[ConvertedNode], None]
) -> DegradationPath:
    """Write `path` into `folder` with `codec`; every node is read again, verified and compared.

    `path` must know its teacher. What fails or is killed leaves nothing in `folder`. Raises
    PathError where `folder` holds anything, and where the path is unfinished or has that codec.
    """
    manifest, folder = path.manifest, Path(os.path.realpath(folder))
    if not path.complete:
        raise PathError(f"{path.folder} is unfinished: convert it when its recording has ended")
    if manifest.codec == codec:
        raise PathError(f"{path.folder} has the codec {codec!r} already: there is nothing to do")
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise PathError(f"{folder} is there already, and not empty: choose another folder")
    teacher = TeacherReference(path.read(0), manifest.teacher.hashes)
    with built_aside(folder) as aside:
        made = DegradationPath.create(
            aside,
            teacher,
            codec=codec,
            method=manifest.method,
            recording={**manifest.recording, CONVERTED: [*passed_codecs(path), manifest.codec]},
            keep_teacher=manifest.teacher.file is not None,
        )
        for before in path:
            node = path.read(before.index)
            after = made.append(node, before.step)
            error = _error(made.read(after.index), node, teacher.tensors)
            tell(ConvertedNode(before, after, error))
        made.finish()
    return DegradationPath(folder, made.manifest, teacher)


def passed_codecs(path: DegradationPath) -> list[str]:
    """The codecs that a path's nodes went through before this one, the first one first."""
    return list(path.manifest.recording.get(CONVERTED, []))


def _error(
    after: Mapping[str, Tensor], before: Mapping[str, Tensor], teacher: Mapping[str, Tensor]
) -> float:
    error = change = 0.0
    for name, base in teacher.items():
        if is_measured(base):
            flat = [reals(value).reshape(-1) for value in (after[name], before[name], base)]
            for begin, end in chunks(0, len(flat[0])):
                new, old, own = (value[begin:end] for value in flat)
                error += square_sum(difference(new, old))
                change += square_sum(difference(old, own))
    return relative(error, change)
