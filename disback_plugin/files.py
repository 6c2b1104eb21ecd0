"""Files that are whole or absent: written beside their place, fsync, rename, fsync folder.

A seal is a SHA-256 that a safetensors file carries itself: any changed bit is damage.
"""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from disback_plugin.errors import DisBackError, PathError
from disback_plugin.reading import require_regular, told

if TYPE_CHECKING:
    from torch import Tensor

TEMP_PREFIX = ".tmp-"
SEAL = "seal"
_SAFETENSORS_TEMP = re.compile(r"\.tmp[A-Za-z0-9]{6}")  # its own, beside what it writes
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how it tells the system's errors
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNSEALED = "0" * 64


# -- writing --------------------------------------------------------------------------------------
def temp_for(target: Path) -> Path:
    """Where this process writes before it renames to `target`; a dead one's place is cleared."""
    for left in dead_temps(target):
        remove(left)
    return target.with_name(f"{_owner()}{os.getpid()}-{target.name}")


def dead_temps(target: Path) -> list[Path]:
    """Where processes of this machine that are gone, or this one before, wrote `target`."""
    named = re.compile(rf"{re.escape(_owner())}(\d+)-{re.escape(target.name)}")
    found = [named.fullmatch(left.name) for left in target.parent.glob(f"{TEMP_PREFIX}*")]
    return [
        target.with_name(own[0])
        for own in found
        if own and (int(own[1]) == os.getpid() or not _is_alive(int(own[1])))
    ]


def _owner() -> str:
    return f"{TEMP_PREFIX}{socket.gethostname()}-"  # a process's number is that of its machine


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def remove(target: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def leftover_temps(folder: Path) -> list[Path]:
    """What a killed writer left behind: temp files and folders of ours and of safetensors."""
    return sorted(
        left
        for left in folder.glob(".tmp*")
        if left.name.startswith(TEMP_PREFIX) or _SAFETENSORS_TEMP.fullmatch(left.name)
    )


def sync(target: Path) -> None:
    """Flush a file or a folder to disk."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Within, what the system says about a write that fails, a full disk, names the target."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as problem:
        found = _OS_ERROR.search(str(problem))
        number = int(found[1]) if found else None
        said = str(problem) if number is None else os.strerror(number)
        raise OSError(number, said, str(target)) from None
    except OSError as problem:
        if problem.filename is not None:
            raise
        raise OSError(problem.errno, problem.strerror or str(problem), str(target)) from None


def commit(temp: Path, file: Path) -> None:
    """Give a finished temp file its name, once its bytes are on the disk."""
    sync(temp)
    os.replace(temp, file)
    sync(file.parent)


def write_json(file: Path, data: Any) -> None:
    """Replace `file` by `data` as indented JSON, atomically."""
    write_text(file, json.dumps(data, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Replace `file` by `text` in UTF-8, atomically."""
    temp = temp_for(file)
    try:
        with naming(file):
            temp.write_text(text, encoding="utf-8")
            commit(temp, file)
    except BaseException:
        remove(temp)
        raise


def write_tensors(
    file: Path,
    tensors: "Mapping[str, Tensor]",
    metadata: dict[str, str] | None = None,
    *,
    seal: bool = False,
) -> tuple[int, str]:
    """Replace `file` by `tensors` as safetensors, atomically; returns (bytes, sha256).

    seal: the file says in its metadata what its SHA-256 is with 64 zeros in the seal's place;
    it is then read with `sealed`, and what is returned is that digest.
    """
    from safetensors.torch import save_file

    if seal:
        metadata = {**(metadata or {}), SEAL: _UNSEALED}
    folder = temp_for(file)
    try:
        folder.mkdir()  # safetensors makes a temp file of its own: it lies in ours
        temp = folder / file.name
        temp.touch()
        mode = temp.stat().st_mode  # safetensors makes files that only their owner may read
        # safetensors refuses tensors that share memory (tied weights), so each gets its own
        own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        with naming(file):
            save_file(own, temp, metadata)
        temp.chmod(mode)
        size, digest = temp.stat().st_size, sha256(temp)
        if seal:
            place = _place_of(temp, _UNSEALED)
            with temp.open("r+b") as stream:
                stream.seek(place)
                stream.write(digest.encode())
        commit(temp, file)
    finally:
        remove(folder)
    return size, digest


# -- reading --------------------------------------------------------------------------------------
def read_tensors(
    file: Path,
    error: type[DisBackError] = PathError,
    *,
    digest: str | None = None,
    sealed: bool = False,
) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and metadata of a safetensors file; `error` where it is missing or not whole.

    digest: its SHA-256 when it was written, as `write_tensors` gave it.
    sealed: the file carries it itself, unless an earlier version wrote it.
    """
    if digest is not None and file.is_file() and sha256(file) != digest:
        raise error(f"{file} is damaged: its SHA-256 is not the one it was written with")
    with _opened(file, error) as stream:
        metadata = stream.metadata() or {}
        if sealed:
            _check_seal(file, metadata, error)
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        return tensors, metadata


def map_tensors(file: Path, error: type[DisBackError] = PathError) -> "dict[str, Tensor]":
    """The tensors of a safetensors file, mapped: bytes are read where they are first looked at.

    Processes of one machine share them. Written to, a page becomes this process's own.
    """
    with _opened(file, error) as stream:
        return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118


def read_metadata(file: Path, error: type[DisBackError] = PathError) -> dict[str, str]:
    """Metadata alone of a safetensors file: no tensor is read."""
    with _opened(file, error) as stream:
        return stream.metadata() or {}


def sha256(file: Path) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces of 1 MiB into the same memory."""
    digest, piece = hashlib.sha256(), memoryview(bytearray(1 << 20))
    with file.open("rb", buffering=0) as stream:
        while num := stream.readinto(piece):
            digest.update(piece[:num])
    return digest.hexdigest()


@contextmanager
def _opened(file: Path, error: type[DisBackError]) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    if not os.path.lexists(file):
        raise error(f"{file} is missing")
    require_regular(file, error)
    try:
        with safe_open(file, framework="pt") as stream:
            yield stream
    except (SafetensorError, OSError) as problem:
        raise error(f"{file} is no whole safetensors file: {told(problem)}") from None


# -- seals ----------------------------------------------------------------------------------------
def _check_seal(file: Path, metadata: dict[str, str], error: type[DisBackError]) -> None:
    """Take the seal out of the metadata; `error` unless it is that of the file's bytes."""
    seal = metadata.pop(SEAL, None)
    if seal is None and not any(map(_DIGEST.fullmatch, metadata.values())):
        return  # of an earlier version: a seal whose name has changed still looks like one
    digest, place = hashlib.sha256(), _place_of(file, seal or "")
    with file.open("rb") as stream:
        digest.update(stream.read(max(place, 0)) + _UNSEALED.encode())
        stream.seek(len(_UNSEALED), os.SEEK_CUR)
        while piece := stream.read(1 << 22):
            digest.update(piece)
    if digest.hexdigest() != seal:
        raise error(f"{file} is damaged: its seal is not that of its content")


def _place_of(file: Path, seal: str) -> int:
    """Where the seal stands in a safetensors file; -1 where it does not."""
    with file.open("rb") as stream:
        header = stream.read(int.from_bytes(stream.read(8), "little"))
    before = f'"{SEAL}":"'
    found = header.find(f'{before}{seal}"'.encode())
    return -1 if found < 0 else 8 + found + len(before)
