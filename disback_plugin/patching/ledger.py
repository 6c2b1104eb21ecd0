"""What was done to a checkout: a folder `.disback` in it with the originals and their hashes."""

import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from disback_plugin.config_base import StrictModel, parse_settings
from disback_plugin.errors import ConfigError
from disback_plugin.patching.engine import PatchError
from disback_plugin.patching.inside import read

FOLDER = ".disback"
LEDGER = f"{FOLDER}/ledger.json"
IGNORE = f"{FOLDER}/.gitignore"
RESTORE = f"restore the files from git or the archive, and remove {FOLDER}"


def digest(content: bytes) -> str:
    """SHA-256 of a text file's bytes; Windows line ends count as Unix ones."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


class Ledger(StrictModel):
    """Applied patches; file -> hash of the original, file -> hash of the patched content.

    `accepted` has the unpatched files that are not the known release's, by --force (missing: "").
    """

    format: Literal[1] = 1
    applied: tuple[str, ...] = ()
    originals: dict[str, str] = Field(default_factory=dict)
    patched: dict[str, str] = Field(default_factory=dict)
    accepted: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def read(cls, root: Path, files: Collection[str]) -> "Ledger":
        """The checkout's ledger; an empty one where nothing was applied.

        files: those that the patches change. It came with the checkout, so no other is trusted.
        """
        file, content = root / LEDGER, read(root, LEDGER)
        if content is None:
            return cls()
        try:
            data = json.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise PatchError(f"{file} is damaged: {error}; {RESTORE}") from None
        if isinstance(data, dict) and data.get("format") not in (None, 1):
            raise PatchError(f"{file} was written by another release: revert with that one")
        try:
            ledger = parse_settings(cls, data, str(file))
        except ConfigError as error:
            raise PatchError(f"{file} is damaged: {error}; {RESTORE}") from None
        if unknown := sorted(ledger.originals.keys() - set(files)):
            raise PatchError(
                f"{file} lists {unknown[0][:100]!r}, which no patch changes: nothing is written. "
                f"Revert with the release that made it; if it came with the checkout, {RESTORE}"
            )
        if ledger.originals.keys() != ledger.patched.keys():
            raise PatchError(f"{file} is damaged: its lists of files differ; {RESTORE}")
        return ledger

    def contents(self, originals: Mapping[str, bytes]) -> dict[str, bytes]:
        """Its files, originals first, then the ledger: what is listed can always be restored."""
        return {
            IGNORE: b"*\n",
            **{original_file(name): content for name, content in originals.items()},
            LEDGER: (json.dumps(self.model_dump(), indent=1) + "\n").encode(),
        }

    def original(self, root: Path, name: str) -> bytes:
        """The stored original bytes of a file, checked against its hash."""
        content = read(root, original_file(name))
        if content is None or digest(content) != self.originals[name]:
            raise PatchError(
                f"{root / original_file(name)} is missing or damaged: restore {name} from its "
                "archive"
            )
        return content

    @staticmethod
    def remove(root: Path) -> None:
        """Forget: the checkout is as upstream made it. Raises PatchError where it cannot."""
        try:
            shutil.rmtree(root / FOLDER)
        except OSError as error:
            raise PatchError(
                f"{root}: all files are restored, but the folder {FOLDER} cannot be removed: "
                f"{error.strerror or error}; revert again once it can, or remove it by hand"
            ) from error


def original_file(name: str) -> str:
    """Where a file's original is kept, relative to the checkout."""
    # not *.py: hosts upload their Python files to experiment trackers
    return f"{FOLDER}/originals/{name}.orig"
