"""Files of somebody's checkout: only those in it, no link, pipe or device, none of endless size."""

import stat
from pathlib import Path, PurePosixPath

from disback_plugin.patching.engine import PatchError

MAX_BYTES = 1 << 17  # the largest file that a patch is for has 50 KB


def inside(root: Path, name: str) -> Path:
    """The path of `name`, relative to `root`: a regular file, or nothing.

    PatchError where it leads out of the checkout, or it or a folder before it is a link.
    """
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or Path(name).is_absolute() or ".." in parts:
        raise PatchError(f"{root}: {name[:100]!r} lies outside the checkout: it is not touched")
    path, mode = root, stat.S_IFREG
    try:
        for part in parts:
            path /= part
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                raise PatchError(
                    f"{root}: {path.relative_to(root)} is a link: only a checkout's own files are "
                    "read and written; put what it points at in its place"
                )
    except (FileNotFoundError, NotADirectoryError):
        return root / name
    except OSError as error:
        raise _unreadable(root, name, error) from error
    if not stat.S_ISREG(mode):
        raise PatchError(
            f"{root}: {name} is no regular file (a folder, pipe or device): restore it from git or "
            "the archive"
        )
    return path


def read(root: Path, name: str) -> bytes | None:
    """The file's bytes, None where it is missing; PatchError where it cannot be read as a whole."""
    try:
        with inside(root, name).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(root, name, error) from error
    if len(content) > MAX_BYTES:
        raise PatchError(
            f"{root}: {name} has more than {MAX_BYTES} bytes, which no file here should have: "
            "restore it from git or the archive"
        )
    return content


def _unreadable(root: Path, name: str, error: OSError) -> PatchError:
    return PatchError(f"{root}: cannot read {name}: {error.strerror or error}")
