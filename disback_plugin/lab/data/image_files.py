"""The files of a folder or a zip by name, with / between its parts; nothing is ever unpacked."""

import os
import stat
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from disback_plugin.errors import DataError
from disback_plugin.reading import cut, read_bytes, require_regular, told

MAX_FILE = 1 << 28  # bytes of one image or table


@dataclass(frozen=True, kw_only=True)
class Files:
    """path: of the folder or zip. names: of files; folders: of those within.

    hidden: how many entries are left out whose name begins with a dot or __MACOSX.
    """

    path: Path
    names: list[str]
    folders: list[str]
    hidden: int
    read: Callable[[str], bytes]


def open_files(path: Path) -> Files | None:
    """What is at `path`; None where that is neither a folder nor a zip. Raises DataError."""
    try:
        if path.is_dir():
            return _folder(path)
        if not path.is_file():
            return None
        if zipfile.is_zipfile(path):
            return _zip(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read: {told(error)}") from None
    if path.suffix.lower() == ".zip":
        raise DataError(f"{path} is no whole zip: it is damaged, or its download did not finish")
    return None


def _folder(path: Path) -> Files:
    """Links are followed; a folder that is reached twice, as in a loop, is refused."""
    names, folders, waiting, hidden = [], [], [""], 0
    entered: dict[tuple[int, int], str] = {}
    while waiting:
        inner = waiting.pop()
        found = os.stat(path / inner)
        other = entered.setdefault((found.st_dev, found.st_ino), inner)
        if other != inner:
            raise DataError(
                f"{path}: {cut(inner or '.')} and {cut(other or '.')} are one folder (a link, or a "
                "loop of them), whose files would count twice: remove one"
            )
        with os.scandir(path / inner) as items:
            for item in items:
                name = f"{inner}/{item.name}" if inner else item.name
                if _is_hidden(item.name):
                    hidden += 1
                elif item.is_dir():
                    waiting.append(name)
                    folders.append(name)
                else:
                    if not item.is_file():
                        require_regular(path / name, DataError)
                    names.append(name)
    return Files(
        path=path,
        names=names,
        folders=folders,
        hidden=hidden,
        read=lambda name: read_bytes(path / name, DataError, MAX_FILE),
    )


def _zip(path: Path) -> Files:
    archive = zipfile.ZipFile(path)
    entries: dict[str, zipfile.ZipInfo] = {}
    folders, hidden = set[str](), 0
    for info in archive.infolist():
        written = info.filename.replace("\\", "/")  # as some zips of Windows have it
        parts = [part for part in written.split("/") if part not in ("", ".")]
        name = "/".join(parts)
        if any(map(_is_hidden, parts)):
            hidden += 1
        elif ".." in parts:
            _refuse(path, info, "leads out of the zip: pack the folder again")
        elif written.endswith("/"):
            folders.add(name)
        elif name in entries:
            _refuse(path, info, "is there twice: unpack it and keep one")
        elif info.flag_bits & 0x1:
            _refuse(path, info, "is encrypted: unpack the zip with its password, give the folder")
        elif stat.S_ISLNK(info.external_attr >> 16):
            _refuse(path, info, "is a link: unpack the zip, give the folder")
        else:
            entries[name] = info
    for name in entries:
        folders.update(str(parent) for parent in PurePosixPath(name).parents if parent.name)

    def read(name: str) -> bytes:
        if entries[name].file_size > MAX_FILE:
            raise DataError(f"it has {entries[name].file_size:,} bytes; at most {MAX_FILE:,}")
        with archive.open(entries[name]) as stream:
            return stream.read(MAX_FILE)

    return Files(path=path, names=[*entries], folders=sorted(folders), hidden=hidden, read=read)


def _refuse(path: Path, info: zipfile.ZipInfo, why: str) -> NoReturn:
    raise DataError(f"{path}: the entry {cut(info.filename)} {why}")


def _is_hidden(part: str) -> bool:
    return part.startswith((".", "__MACOSX")) and part not in (".", "..")


def kinds(names: Iterable[str]) -> str:
    """`2 .jpg, 10 .png`: how many files of each kind, by their names."""
    counts: dict[str, int] = {}
    for name in names:
        kind = PurePosixPath(name).suffix.lower() or "without a suffix"
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{num:,} {cut(kind, 20)}" for kind, num in sorted(counts.items())[:12])
