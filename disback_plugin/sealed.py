"""Our JSON on disk: one way to read it, one message where it is damaged, a digest over it.

Sealed is an object whose last entry is the SHA-256 of the others. Files that go with it are listed
in it with their sizes and digests.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from disback_plugin.errors import DisBackError
from disback_plugin.files import sha256, write_json

logger = logging.getLogger("disback")

SEAL = "sha256"
MAX_BYTES = 1 << 25  # of one JSON file
_DIGEST = re.compile("[0-9a-f]{64}")
_DAMAGE = (
    *(ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError),
    SafetensorError,
)
_said: list[Path] = []


@contextmanager
def damage_of(file: Path, error: type[DisBackError], advice: str = "") -> Iterator[None]:
    """Within, what an unreadable or damaged `file` raises becomes `error`: file, seen, advice."""
    ending = f"; {advice}" if advice else ""
    try:
        if file.exists() and not file.is_file():  # to open a pipe may never end
            raise OSError("it is no file")
        yield
    except DisBackError:
        raise
    except FileNotFoundError:
        raise error(f"{file} is missing{ending}") from None
    except OSError as problem:
        raise error(f"{file} cannot be read: {problem.strerror or problem}{ending}") from None
    except _DAMAGE as problem:
        seen = f"{type(problem).__name__}: {problem}"[:300]
        raise error(f"{file} is damaged ({seen}){ending}") from None


def read_json(file: Path, error: type[DisBackError], advice: str = "") -> dict[str, Any]:
    """The JSON object in `file`; `error`, naming it, for anything else."""
    with damage_of(file, error, advice):
        if file.exists() and file.stat().st_size > MAX_BYTES:
            raise ValueError(f"{file.stat().st_size:,} bytes; at most {MAX_BYTES:,} are read")
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError as problem:
            raise ValueError(f"not valid JSON: {problem}") from None
        if not isinstance(found, dict):
            raise TypeError(f"not a JSON object: {type(found).__name__}")
        return found


def seal(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its digest."""
    return {**data, SEAL: digest(data)}


def unseal(data: dict[str, Any], file: Path) -> dict[str, Any]:
    """What `seal` was given; ValueError where that is not what the object in `file` says now.

    An object of an earlier version has no digest: that is said once, it is not checked.
    """
    *_, last = (None, *data)
    if SEAL not in data:
        if last is not None and _DIGEST.fullmatch(str(data[last])):
            raise ValueError(f"its digest has the name {last!r}")
        say_unchecked(file)
        return data
    rest = {key: value for key, value in data.items() if key != SEAL}
    if data[SEAL] != digest(rest):
        raise ValueError("its SHA-256 is not the one it was written with")
    return rest


def write_sealed(file: Path, data: Mapping[str, Any]) -> None:
    """Replace `file` by `data` with its digest, atomically."""
    write_json(file, seal(data))


def read_sealed(file: Path, error: type[DisBackError], advice: str = "") -> dict[str, Any]:
    """What `write_sealed` was given; `error` where that is not what the file says now."""
    data = read_json(file, error, advice)
    with damage_of(file, error, advice):
        return unseal(data, file)


def say_unchecked(file: Path) -> None:
    """Log, once a process, that files of earlier versions have no digests."""
    if not _said:
        _said.append(file)
        logger.warning(
            "%s is of an earlier version, which kept no digests: such files are not checked", file
        )


def digest(data: Any) -> str:
    """Hex SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()


def fingerprints(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files in `folder`, as `check_files` takes them."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256(folder / name)}
        for name in sorted(names)
    }


def check_file(
    folder: Path, name: str, files: Mapping[str, Any], error: type[DisBackError], advice: str = ""
) -> None:
    """Raise `error` unless the file in `folder` is what `files` says; of no entry: unchecked."""
    file = folder / name
    with damage_of(file, error, advice):
        if name not in files:
            return
        if Path(name).name != name:
            raise ValueError("it lies outside of its folder")
        size = file.stat().st_size
        if size != files[name]["bytes"]:
            raise ValueError(f"{size} bytes instead of {files[name]['bytes']}")
        if sha256(file) != files[name]["sha256"]:
            raise ValueError("its SHA-256 is not the one it was written with")
