"""Where a run's lines go: `metrics.jsonl`, cut back exactly on resume, and Weights & Biases."""

import hashlib
import json
import math
import netrc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from accelerate import Accelerator

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.files import naming
from disback_plugin.lab.config.experiment import WandbConfig
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


def check_wandb() -> None:
    """Raise ConfigError with the command to run where wandb is missing."""
    if find_spec("wandb") is None:
        raise ConfigError("logging.wandb is set, but wandb is not installed: pip install wandb")


def start_tracker(
    accelerator: Accelerator, wandb: WandbConfig | None, folder: Path, group: str, name: str
) -> None:
    """Open a W&B run in `folder`/wandb; a resumed run opens another one in the same group."""
    if wandb is None:
        return
    init: dict[str, Any] = {"mode": _mode(wandb), "dir": str(folder), "group": group, "name": name}
    accelerator.init_trackers(wandb.project, init_kwargs={"wandb": init})


def track(accelerator: Accelerator, line: dict[str, Any]) -> None:
    """Send a line of metrics.jsonl, as `train/fake_loss` or `eval/fd_pixel`."""
    if not accelerator.trackers:
        return
    kind = line["kind"]
    values = {**line, **line.get("metrics", {})}
    numbers = {
        f"{kind}/{key}": value
        for key, value in values.items()
        if isinstance(value, int | float) and key != "step"
    }
    accelerator.log(numbers, step=line["step"])


def finish_tracker(accelerator: Accelerator) -> None:
    """Close the tracker alone: `end_training` would also end the group of processes."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []


def _mode(wandb: WandbConfig) -> str:
    """`auto`: what WANDB_MODE says, else online where an API key is configured."""
    if wandb.mode != "auto":
        return wandb.mode
    return os.environ.get("WANDB_MODE") or ("online" if _has_api_key() else "offline")


def _has_api_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = os.environ.get("NETRC", str(Path.home() / ".netrc"))
    try:
        return netrc.netrc(file).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
