"""`metrics.jsonl`: one JSON object a line, flushed as written, cut back exactly on resume."""

import json
import math
import os
from pathlib import Path
from typing import Any

from disback_plugin.errors import RunError


class MetricsLog:
    """Appends lines to `file` after its first `offset` bytes; later ones were never saved."""

    def __init__(self, file: Path, offset: int = 0) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = file.open("ab")
        size = os.fstat(self._stream.fileno()).st_size
        if size < offset:
            raise RunError(
                f"{file} has {size} bytes, but the checkpoint was made when it had {offset}: "
                "restore the file, or start the run again in another folder"
            )
        self._stream.truncate(offset)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line. Numbers that JSON has no words for (nan, inf) become null."""
        text = json.dumps(_finite(line), allow_nan=False)
        self._stream.write(text.encode("utf-8") + b"\n")
        self._stream.flush()

    def offset(self) -> int:
        """Bytes written so far, on disk for certain: what a checkpoint remembers."""
        os.fsync(self._stream.fileno())
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        self._stream.close()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
