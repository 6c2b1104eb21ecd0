"""Which class an image has: from dataset.json, another table of its form, or class folders."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from disback_plugin.errors import DataError, count
from disback_plugin.lab.data import file_order
from disback_plugin.lab.data.image_files import MAX_FILE, Files
from disback_plugin.reading import cut, local_path, read_bytes, require_regular, shown, told

TABLE = "dataset.json"
NO_LABELS = "none"
MAX_CLASSES = 2**31
_PARTS = "train|training|trainval|val|valid|validation|test|testing|eval|dev|holdout"
_SPLIT = re.compile(rf"({_PARTS})([-_ ]?(set|data|split|images|[0-9]+))?", re.IGNORECASE)
_WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+")
# folders of one thing seen in several ways, and tables that could hold labels
_VIEWS = (
    re.compile("images?|imgs?|jpegimages|rgb|inputs?", re.IGNORECASE),
    re.compile("masks?|labels?|annotations?|segmentations?|gt|targets?|depth|edges", re.IGNORECASE),
)
_OTHER_TABLE = re.compile(
    r"(metadata|labels?|annotations?)\.(jsonl|json|csv|tsv|txt|parquet)", re.IGNORECASE
)


@dataclass(frozen=True)
class Labels:
    """numbers (N,) int64, or None; said: where they come from; classes: their names, if any."""

    numbers: np.ndarray | None
    said: str
    classes: Sequence[str] = ()


def find_labels(files: Files, images: Sequence[str], choice: str) -> Labels:
    """Labels of `images`; choice: "auto", "none", or a JSON file. Raises DataError."""
    if choice == NO_LABELS:
        return Labels(None, "none, as asked")
    folders = [name.split("/")[:-1] for name in images]
    ends = zip(min(folders), max(folders), strict=False)
    common = [one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends)]
    above = ["".join(f"{part}/" for part in common[:depth]) for depth in range(len(common) + 1)]
    if choice != "auto":
        given = local_path(Path(choice))
        require_labels_file(given)
        return _from_table(
            files, images, cut(choice), read_bytes(given, DataError, MAX_FILE), above
        )
    tables = [name for name in files.names if PurePosixPath(name).name.lower() == TABLE]
    ways = f"give one as --labels FILE, or pass --labels {NO_LABELS}"
    if len(tables) > 1:
        raise DataError(f"{files.path} has {' and '.join(map(cut, tables[:2]))}: {ways}")
    for table in tables:
        folder = table[: -len(TABLE)]
        if folder not in above:
            raise DataError(f"{files.path}/{cut(table)} does not lie above all images: {ways}")
        content = _content(files, table)
        return _from_table(files, images, f"{files.path}/{cut(table)}", content, [folder])
    found = _from_folders(files, images, folders, common)
    if found.numbers is None:
        _refuse_unread(files)
    return found


def _refuse_unread(files: Files) -> None:
    """Raise DataError where no label was found, and a file beside could hold them all."""
    for name in files.names:
        if _OTHER_TABLE.fullmatch(PurePosixPath(name).name):
            raise DataError(
                f"{files.path}/{cut(name)} could hold labels, and such a file is not read: give "
                f'them as --labels FILE, JSON {{"labels": [[NAME, NUMBER], ...]}}, or pass '
                f"--labels {NO_LABELS}"
            )


def require_labels_file(file: Path) -> None:
    """Raise DataError that says what else to give."""
    try:
        require_regular(file, DataError, MAX_FILE)
    except DataError as error:
        raise DataError(
            f"the labels file {error}: give a JSON file, auto (from the source) or none"
        ) from None


def _content(files: Files, table: str) -> bytes:
    try:
        return files.read(table)
    except Exception as error:  # of the file, or of any of zipfile's ways to unpack
        raise DataError(f"{files.path}/{cut(table)} cannot be read: {told(error)}") from None


def _from_folders(
    files: Files, images: Sequence[str], folders: list[list[str]], common: list[str]
) -> Labels:
    """The folders below the one that holds all images are the classes."""
    depth = len(common)
    tops = [parts[depth] if len(parts) > depth else "" for parts in folders]
    classes = file_order.in_order(sorted(set(tops)))
    if len(classes) == 1:
        where = f"all images lie in one folder, {cut('/'.join(common))}" if common else "no folders"
        return Labels(None, f"none: there is no {TABLE}, and {where} to tell classes")
    if not classes[0]:
        raise DataError(
            f"{files.path} holds images itself ({cut(images[tops.index('')])}) and in sub-folders "
            f"({cut(classes[1])}): put all into class sub-folders, or pass --labels none"
        )
    _refuse_levels(files, folders, classes, depth)
    file_order.refuse_twins(files.path, classes, classes)
    position = {name: number for number, name in enumerate(classes)}
    numbers = np.array([position[top] for top in tops], dtype=np.int64)
    said = f"from the class folders, {file_order.said(classes)}"
    other = [f"{name} is class {k}" for k, name in enumerate(classes) if name.isdigit()]
    other = [text for k, text in enumerate(other) if int(text.split()[0][-18:]) != k]
    said += f"; the folder {', '.join(map(cut, other[:3]))}" if other else ""
    prefix = "".join(f"{part}/" for part in common)
    within = {name.removeprefix(prefix) for name in files.folders if name.startswith(prefix)}
    empty = file_order.in_order([name for name in within - set(classes) if "/" not in name])
    said += f"; no class, without images: {', '.join(map(cut, empty[:5]))}" if empty else ""
    deeper = any(len(parts) > depth + 1 for parts in folders)
    return Labels(numbers, said + ("; folders below them say nothing" if deeper else ""), classes)


def _refuse_levels(
    files: Files, folders: list[list[str]], classes: Sequence[str], depth: int
) -> None:
    """Raise DataError where classes may lie a level lower: train/ and val/ over them."""
    below: dict[str, set[str]] = {name: set() for name in classes}
    for parts in folders:
        below[parts[depth]].update(parts[depth + 1 : depth + 2])
    splits = [name for name in classes if _SPLIT.fullmatch(name)]
    inner = [name for name in classes if below[name]]
    alike = len(set().union(*below.values())) < sum(map(len, below.values()))
    named = all(any(map(_SPLIT.fullmatch, _WORD.findall(name))) for name in classes)  # trainA
    views = all(any(map(kind.fullmatch, classes)) for kind in _VIEWS)
    if len(splits) > 1 or any(below[name] for name in splits) or alike or named or views:
        first = cut((splits or inner or classes)[0])
        one = files.path / str(first) if files.path.is_dir() else f"{first}/ alone, unpacked"
        raise DataError(
            f"{files.path}: {', '.join(map(cut, classes[:4]))} look like parts of a data set, not "
            f"like classes. Give one part ({one}), whose folders are then the classes, or say "
            f"what the classes are: --labels FILE, or --labels {NO_LABELS}"
        )


def _from_table(
    files: Files, images: Sequence[str], name: str, content: bytes, bases: Sequence[str]
) -> Labels:
    """bases: folders that the table's names may be below; the first that fits an image counts."""
    table = _read_table(name, content)
    if table is None:
        return Labels(None, f"none: {name} says null")
    plain = [_plain(image) for image in images]
    starts = map(_plain, bases)
    base = next(
        (base for base in starts if any(one.removeprefix(base) in table for one in plain)), bases[0]
    )
    keys = [image.removeprefix(base) for image in plain]
    missing = [image for image, key in zip(images, keys, strict=True) if key not in table]
    if missing:
        raise DataError(
            f"{name} has no label for {len(missing)} of {len(images)} images: {_first(missing)}"
        )
    if len(table) > len(images):
        unknown = [key for key in table if key not in set(keys)] if len(table) < 1000 else []
        unknown = unknown or sorted(table.keys() - set(keys))
        raise DataError(
            f"{name} has labels for {count(len(table) - len(images), 'image')} not in "
            f"{files.path}: {_first(unknown)}"
        )
    for image, key in zip(images, keys, strict=True):
        label = table[key]
        if type(label) is not int or not 0 <= label < MAX_CLASSES:
            raise DataError(f"{name}: the label of {cut(image)} is {shown(label)}, no class number")
    return Labels(np.array([table[key] for key in keys], dtype=np.int64), f"from {name}")


def _read_table(name: str, content: bytes) -> dict[str, Any] | None:
    """`{"labels": [["00000/img00000000.png", 6], ...]}`, or null for none."""
    try:
        labels = json.loads(content, object_pairs_hook=_once)["labels"]
        if labels is None:
            return None
        pairs = labels.items() if isinstance(labels, Mapping) else labels
        return _once([(_plain(key), value) for key, value in pairs])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f'{name} is not of the form {{"labels": [[NAME, NUMBER], ...]}}: {told(error)}'
        ) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if table.setdefault(key, value) != value:
            raise ValueError(f"{shown(key)} is there twice")
    return table


def _plain(name: str) -> str:
    """A name as it is compared: macOS writes é as two characters, Windows / as \\."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def _first(names: Sequence[str]) -> str:
    return ", ".join(cut(name, 100) for name in names[:3]) + (", ..." if len(names) > 3 else "")
