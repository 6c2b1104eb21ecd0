"""Where a run's lines go besides `metrics.jsonl`: Weights & Biases, TensorBoard, by Accelerate."""

import netrc
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from accelerate import Accelerator
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import LoggingConfig, WandbConfig
from disback_plugin.lab.grid import grid_of

TENSORBOARD = "tensorboard"  # the folder in a run's
NUM_TILES = 64


def chosen_trackers(logging: LoggingConfig) -> list[str]:
    """Accelerate's names; ConfigError with the command to run where one is not installed."""
    names = [] if logging.wandb is None else ["wandb"]
    names += [TENSORBOARD] if logging.tensorboard else []
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(
                f"logging.{name} is set, but {name} is not installed: pip install {name}"
            )
    return names


def start_trackers(
    accelerator: Accelerator, logging: LoggingConfig, folder: Path, group: str, name: str, step: int
) -> None:
    """Open them in `folder`/wandb and `folder`/tensorboard, for lines after `step`.

    A resumed run opens another W&B run in the same group; in TensorBoard it goes on in the same
    curves, from which what came after the checkpoint is taken.
    """
    if not accelerator.log_with:
        return
    init: dict[str, Any] = {TENSORBOARD: {"purge_step": step + 1 if step else 0}}
    project = "run"
    if logging.wandb is not None:
        project = logging.wandb.project
        init["wandb"] = {"mode": _mode(logging.wandb), "dir": str(folder)}
        init["wandb"] |= {"group": group, "name": name}
    accelerator.project_configuration.logging_dir = str(folder / TENSORBOARD)
    accelerator.init_trackers(project, init_kwargs=init)


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


def track_samples(accelerator: Accelerator, samples: Tensor, step: int) -> None:
    """Send a grid of the first samples, where they are images (n, 1 or 3, H, W) in [-1, 1]."""
    if not accelerator.trackers or samples.ndim != 4 or samples.shape[1] not in (1, 3):
        return
    pixels = (samples[:NUM_TILES].clamp(-1, 1) + 1) * 127.5
    picture = grid_of(pixels.round().byte().permute(0, 2, 3, 1).numpy())
    for tracker in accelerator.trackers:
        laid_out = {"dataformats": "NHWC"} if tracker.name == TENSORBOARD else {}
        tracker.log_images({"eval/samples": picture[None]}, step=step, **laid_out)


def finish_trackers(accelerator: Accelerator) -> None:
    """Close them alone: `end_training` would also end the group of processes."""
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
