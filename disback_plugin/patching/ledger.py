"""What was done to a checkout: a folder `.disback` in it with the originals and their hashes."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from disback_plugin.patching.engine import PatchError

FOLDER = ".disback"
LEDGER = f"{FOLDER}/ledger.json"
FORMAT = 1


def digest(content: bytes) -> str:
    """SHA-256 of a text file's bytes; Windows line ends count as Unix ones."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


@dataclass
class Ledger:
    """Applied patches; file -> hash of the original, file -> hash of the patched content.

    `accepted` has the unpatched files that are not the known release's, by --force (missing: "").
    """

    applied: list[str] = field(default_factory=list)
    originals: dict[str, str] = field(default_factory=dict)
    patched: dict[str, str] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> "Ledger":
        """The checkout's ledger; an empty one where nothing was applied."""
        file = root / LEDGER
        try:
            if not file.exists():
                return cls()
            data = json.loads(file.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise PatchError(f"{file} was written by another release: revert with that one")
            return cls(**data)
        except OSError as error:
            raise PatchError(f"{file} cannot be read: {error.strerror or error}") from error
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise PatchError(f"{file} is damaged: {error}; restore the checkout") from None

    def contents(self, originals: Mapping[str, bytes]) -> dict[str, bytes]:
        """Its files, originals first, then the ledger: what is listed can always be restored."""
        data = json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"
        return {
            f"{FOLDER}/.gitignore": b"*\n",
            **{original_file(name): content for name, content in originals.items()},
            LEDGER: data.encode(),
        }

    def original(self, root: Path, name: str) -> bytes:
        """The stored original bytes of a file, checked against its hash."""
        file = root / original_file(name)
        content = file.read_bytes() if file.exists() else b""
        if digest(content) != self.originals[name]:
            raise PatchError(f"{file} is missing or damaged: restore {name} from its archive")
        return content

    @staticmethod
    def remove(root: Path) -> None:
        """Forget: the checkout is as upstream made it. Raises PatchError where it cannot."""
        try:
            shutil.rmtree(root / FOLDER)
        except OSError as error:
            raise PatchError(
                f"{root}: all files are restored, but the folder {FOLDER} cannot be removed: "
                f"{error.strerror or error}; remove it by hand"
            ) from error


def original_file(name: str) -> str:
    """Where a file's original is kept, relative to the checkout."""
    # not *.py: hosts upload their Python files to experiment trackers
    return f"{FOLDER}/originals/{name}.orig"
