"""Files and texts of strangers: only regular files, bounded, with one way to say what is wrong."""

import os
import re
import reprlib
import stat
from pathlib import Path

from disback_plugin.errors import DisBackError

_ADDRESS = re.compile(r"(https?|ftp|s3|gs|hf|file):/+")
_UNSAFE_ADVICE = re.compile("allow_pickle|weights_only|trust_remote_code|max_header_size")
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe, not a file"}
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 120
_repr.maxlevel, _repr.maxdict, _repr.maxlist, _repr.maxtuple = 3, 6, 8, 8


def shown(value: object) -> str:
    """A value for a message: its repr, cut before it is long."""
    return _repr.repr(value)


def cut(text: object, limit: int = 500) -> str:
    """Text for a message: at most `limit` characters, what a terminal would obey made visible."""
    whole = str(text)
    visible = (
        char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in whole[:limit]
    )
    return "".join(visible) + (f"... ({len(whole):,} characters)" if len(whole) > limit else "")


def told(error: BaseException) -> str:
    """What a library says, without its advice to load what could run anything."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if _UNSAFE_ADVICE.search(str(error)):
        return "it holds Python objects or code, which are never loaded; save plain arrays or text"
    return cut(error) or type(error).__name__


def local_path(path: Path) -> Path:
    """The path with ~ as the home folder (./~ is one of that name); raises for an address."""
    address = _ADDRESS.match(str(path))
    if address:
        where = f"{address[1]}://{cut(str(path)[address.end() :], 200)}"
        raise DisBackError(f"{where} is an address, no file here: download it and give its path")
    if "\0" in str(path):
        raise DisBackError(f"{shown(str(path))} is no path: it holds a NUL")
    try:
        return path.expanduser()
    except RuntimeError:  # no such user: it is the name of a file
        return path


def require_regular(file: Path, error: type[DisBackError], limit: int | None = None) -> None:
    """Raise `error` unless this is a file: opening a pipe or a device may wait or never end.

    limit: of its size, in bytes.
    """
    try:
        found = os.stat(file)
    except FileNotFoundError:
        lost = "is a link to nothing" if file.is_symlink() else "does not exist"
        raise error(f"{cut(file)} {lost}") from None
    except OSError as problem:
        raise error(f"{cut(file)} cannot be read: {told(problem)}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a device, not a file")
        raise error(f"{cut(file)} is {kind}")
    if limit is not None and found.st_size > limit:
        raise error(f"{cut(file)} has {found.st_size:,} bytes; at most {limit:,} are read of such")


def read_bytes(file: Path, error: type[DisBackError], limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; `error`, naming it, otherwise."""
    require_regular(file, error, limit)
    try:
        with file.open("rb") as stream:
            return stream.read(limit)
    except OSError as problem:
        raise error(f"{cut(file)} cannot be read: {told(problem)}") from None


def read_text(file: Path, error: type[DisBackError], limit: int) -> str:
    """The text in UTF-8, with or without a byte order mark; line ends become "\\n"."""
    content = read_bytes(file, error, limit)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        seen = f"the byte {content[problem.start]:#04x} at {problem.start}"
        raise error(f"{cut(file)} is no text in UTF-8 ({seen})") from None
    if "\0" in text:
        raise error(f"{cut(file)} is no text in UTF-8 (it holds a NUL, as UTF-16 and binaries do)")
    return text.replace("\r\n", "\n")
