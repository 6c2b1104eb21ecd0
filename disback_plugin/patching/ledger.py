"""What was done to a checkout: a folder `.disback` in it with the originals and their hashes."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from disback_plugin.patching.engine import PatchError
from disback_plugin.path.atomic import write_json

FOLDER = ".disback"
FORMAT = 1


def digest(content: bytes) -> str:
    """SHA-256 of a text file's bytes; Windows line ends count as Unix ones."""
    return hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest()


@dataclass
class Ledger:
    """Applied patches; file -> hash of the original, file -> hash of the patched content."""

    applied: list[str] = field(default_factory=list)
    originals: dict[str, str] = field(default_factory=dict)
    patched: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, root: Path) -> "Ledger":
        """The checkout's ledger; an empty one where nothing was applied."""
        file = root / FOLDER / "ledger.json"
        if not file.exists():
            return cls()
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            if data.pop("format") != FORMAT:
                raise PatchError(f"{file} was written by another release: revert with that one")
            return cls(**data)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise PatchError(f"{file} is damaged: {error}; restore the checkout") from None

    def write(self, root: Path, originals: dict[str, bytes]) -> None:
        """Store originals first, then the ledger: what is listed can always be restored."""
        for name, content in originals.items():
            target = self._original_file(root, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        (root / FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
        write_json(root / FOLDER / "ledger.json", {"format": FORMAT, **asdict(self)})

    def original(self, root: Path, name: str) -> bytes:
        """The stored original bytes of a file, checked against its hash."""
        file = self._original_file(root, name)
        content = file.read_bytes() if file.exists() else b""
        if digest(content) != self.originals[name]:
            raise PatchError(f"{file} is missing or damaged: restore {name} from its archive")
        return content

    @staticmethod
    def remove(root: Path) -> None:
        """Forget: the checkout is as upstream made it."""
        shutil.rmtree(root / FOLDER)

    @staticmethod
    def _original_file(root: Path, name: str) -> Path:
        # not *.py: hosts upload their Python files to experiment trackers
        return root / FOLDER / "originals" / f"{name}.orig"
