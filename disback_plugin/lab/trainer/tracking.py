"""Weights & Biases through Accelerate's tracker: offline where there is no account."""

import netrc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from accelerate import Accelerator

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import WandbConfig


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
    init: dict[str, Any] = {
        "mode": _mode(wandb),
        "dir": str(folder),
        "group": group,
        "name": name,
    }
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
