"""Where a run's lines go: `metrics.jsonl`, cut back exactly on resume."""

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError
from disback_plugin.files import naming
from disback_plugin.reading import require_regular


class MetricsLog:
    """Appends a JSON object a line, flushed at once, to the first `offset` bytes of `file`.

    What lies after these was never saved in a checkpoint: it is cut off. RunError where they are
    not those of the checkpoint, whose `digest` they had (None: of an earlier version).
    """

    def __init__(self, file: Path, offset: int = 0, digest: str | None = None) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(file):
            require_regular(file, RunError)
        self._file, self._stream = file, file.open("ab")
        size = os.fstat(self._stream.fileno()).st_size
        if size < offset:
            raise RunError(
                f"{file} has {size} bytes, but the checkpoint was made when it had {offset}: "
                "restore the file, or start the run again in another folder"
            )
        with file.open("rb") as stream:
            self._digest = hashlib.sha256(stream.read(offset))
        if digest not in (None, self.digest):
            raise RunError(
                f"{file} is damaged: its first {offset} bytes are not those that the checkpoint was"
                " made with; restore the file, or start the run again in another folder"
            )
        self._stream.truncate(offset)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written so far."""
        return self._digest.hexdigest()

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. Numbers that JSON has no words for (nan, inf) become null."""
        text = json.dumps(_finite(line), allow_nan=False)
        data = text.encode("utf-8") + b"\n"
        with naming(self._file):
            self._stream.write(data)
            self._stream.flush()
        self._digest.update(data)

    def offset(self) -> int:
        """Bytes written so far, on disk for certain: what a checkpoint remembers."""
        os.fsync(self._stream.fileno())
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        with naming(self._file):
            self._stream.close()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
