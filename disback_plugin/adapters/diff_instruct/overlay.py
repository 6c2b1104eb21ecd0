"""What the patched Diff-Instruct calls. Without `--disback` it does nothing."""

import argparse
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from torch import nn

from disback_plugin.adapters import overlay
from disback_plugin.adapters.diff_instruct import DiffInstructHost
from disback_plugin.adapters.diff_instruct.measure import Draws
from disback_plugin.adapters.diff_instruct.state import TrainingState
from disback_plugin.adapters.overlay import click_flags
from disback_plugin.adapters.overlay.flags import config_from, left_open
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.config import DisBackConfig
from disback_plugin.config_base import parse_settings

__all__ = ["Draws", "Overlay", "TrainingState", "options", "settings"]

# no recording hangs on where things are written, told, or resumed from
_BESIDE = "outdir desc nosubdir duration tick snap seed resume dry_run bench cache workers metrics"
Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """Decorator: adds `--disback`, its settings and `--disback_resume`."""
    resume = click.option(
        "--disback_resume",
        help="go on from the newest training state in this output folder",
        type=click.Path(exists=True),
    )
    return click_flags.options(resume(command))


def settings(opts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Plain data for the training loop, None without `--disback`; a usage error where wrong."""
    args = argparse.Namespace(**opts)
    click_flags.check_options(args, _run_of(args))
    if not args.disback:
        return None
    config = config_from(args, _BESIDE).model_dump(mode="json")
    return {"config": config, "left_open": left_open(args), "resume": args.disback_resume}


def _run_of(args: argparse.Namespace) -> HostRun:
    """It counts in thousands of images, a step is a batch."""
    duration, batch = getattr(args, "duration", None), getattr(args, "batch", None)
    length = None
    if duration and batch:
        length = math.ceil(max(int(duration * 1000), 1) * 1000 / batch)
    warm_up = getattr(args, "lr_warmup_kimg", 0)
    warms = warm_up > 0 and args.disback_resume is None
    told = f"--duration {duration} --batch {batch}"
    return HostRun(length, told, f"--lr_warmup_kimg {warm_up}" if warms else None)


class Overlay(overlay.Overlay):
    """Attached to the networks just before the first step. A step is a batch, not 1,000 images."""

    def __init__(
        self,
        settings: dict[str, Any] | None,
        net: nn.Module,
        fake_score: nn.Module,
        g: nn.Module,
        draws: Draws | None = None,
    ) -> None:
        config = None
        if settings is not None:
            config = parse_settings(DisBackConfig, settings["config"], "disback_settings")
        super().__init__(config, (settings or {}).get("left_open", ()))
        self.start(DiffInstructHost(net, fake_score, g, draws), "diff-instruct")

    def report(self, report0: Callable[[str, float], Any], step: int) -> None:
        """Add stage, node and distance to the host's statistics."""
        for name, value in self.metrics(step).items():
            report0(name, value)
