"""What the patched script of SwiftBrush calls. Without `--disback` it does nothing."""

import argparse
import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from disback_plugin.adapters.overlay import CheckpointedOverlay, flags, side_file
from disback_plugin.adapters.overlay.flags import add_arguments, config_from, left_open
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.adapters.swiftbrush import SwiftBrushHost
from disback_plugin.adapters.swiftbrush.measure import Draws
from disback_plugin.session import DisBack

__all__ = ["Draws", "Overlay", "add_arguments", "check_arguments", "loggable"]

logger = logging.getLogger("disback")
# no recording hangs on where things are written, told, or resumed from
_BESIDE = (
    "output_dir logging_dir cache_dir max_train_steps num_train_epochs seed local_rank "
    "checkpointing_steps checkpoints_total_limit resume_from_checkpoint validation_prompts "
    "validation_steps num_validation_images dataloader_num_workers"
)


def loggable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The script's arguments as TensorBoard takes them: lists and the like become text."""
    plain = (int, float, str, bool, type(None))
    return {
        name: value if isinstance(value, plain) else json.dumps(value)
        for name, value in settings.items()
    }


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse, as the parser does, what cannot work, before SwiftBrush loads anything."""
    flags.check_arguments(parser, args, _run_of(args))


def _run_of(args: argparse.Namespace) -> HostRun:
    length, warm_up = (getattr(args, name, None) for name in ("max_train_steps", "lr_warmup_steps"))
    schedule = getattr(args, "lr_scheduler", "constant")
    warms = warm_up and schedule != "constant" and not getattr(args, "resume_from_checkpoint", None)
    return HostRun(
        length,
        f"--max_train_steps {length}",
        f"--lr_scheduler {schedule} --lr_warmup_steps {warm_up}" if warms else None,
    )


class Overlay(CheckpointedOverlay):
    """SwiftBrush skips its student's update while `update_student` is False."""

    found = (
        ", at node {node}: resume it with --disback and the settings it was made with, or remove "
        f"its {side_file.FILE_NAME} to go on against the teacher at once"
    )

    def __init__(
        self,
        args: argparse.Namespace,
        unet: nn.Module,
        teacher_lora: nn.Module,
        draws: Draws | None = None,
    ) -> None:
        """Once the networks are wrapped, before a checkpoint is loaded."""
        super().__init__(config_from(args, _BESIDE) if args.disback else None, left_open(args))
        if self.config is not None:  # by now the length is known, where epochs give it
            _run_of(args).warn_if_short(self.config)
        self.start(SwiftBrushHost(unet, teacher_lora, draws), "swiftbrush")
        self._shown = ExitStack()
        # node 0 as an adapter is all zeros, which would never train: keep how LoRA starts
        self._untrained: dict[str, Tensor] = {}
        if self.session is not None:
            self._untrained = self.session.installation.read_fake_score()

    def show_real_score(self) -> None:
        """After SwiftBrush disabled its adapters: the node answers; for node 0 the base does."""
        if self.session is not None and self.session.installed_node:
            self._shown.enter_context(self.session.real_score())

    def hide_real_score(self) -> None:
        """Before SwiftBrush enables its adapters: everything as it was before `show_...`."""
        self._shown.close()

    def start_from(self, folder: str, session: DisBack) -> None:
        def reset() -> None:
            session.installation.load_fake_score(self._untrained)
            logger.warning(
                "%s was made without --disback: DisBack starts at this step, its student is the "
                "initial one, and the fake score's LoRA is reset (its optimizer state is not)",
                folder,
            )

        session.before_path = reset
