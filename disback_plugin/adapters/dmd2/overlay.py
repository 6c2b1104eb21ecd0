"""What the patched scripts of DMD2 call: `trainer.disback`. Without `--disback` it does nothing."""

import argparse
import logging
from typing import Any

from torch import nn

from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from disback_plugin.adapters.overlay import CheckpointedOverlay, flags, side_file
from disback_plugin.adapters.overlay.flags import add_arguments
from disback_plugin.adapters.overlay.host_run import HostRun
from disback_plugin.errors import SessionError
from disback_plugin.session import DisBack

__all__ = ["Overlay", "add_arguments", "check_arguments"]

logger = logging.getLogger("disback")
# of both scripts: no recording hangs on where things are written, told, or resumed from
_BESIDE = (
    "output_path log_path cache_dir train_iters log_iters wandb_iters wandb_entity wandb_project "
    "wandb_name checkpoint_path ckpt_only_path local_rank seed no_save delete_ckpts log_loss "
    "max_checkpoint num_workers grid_size"
)


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse, as the parser does, what cannot work, before DMD2 loads anything."""
    if args.disback and getattr(args, "gan_alone", False):
        parser.error(
            "--disback replaces the real score along a path, and --gan_alone trains without one "
            "(it deletes real_unet): leave one of them out"
        )
    length, warm_up = getattr(args, "train_iters", None), getattr(args, "warmup_step", 0)
    is_warm = getattr(args, "checkpoint_path", None) is not None  # its schedulers come with it
    flags.check_arguments(
        parser,
        args,
        HostRun(
            length,
            f"--train_iters {length}",
            f"--warmup_step {warm_up}" if warm_up and not is_warm else None,
        ),
    )


class Overlay(CheckpointedOverlay):
    """DMD2 skips its generator and its pictures while `update_student` is False."""

    found = (
        ": its real_unet holds node {node}, not the teacher. Resume it with --disback and the "
        "settings it was made with"
    )

    def __init__(self, args: argparse.Namespace, model: nn.Module, adapter: str) -> None:
        """Right after the model is built: the teacher is remembered before a checkpoint loads."""
        config = flags.config_from(args, _BESIDE) if args.disback else None
        super().__init__(config, flags.left_open(args))
        self._args, self._adapter = args, adapter
        self._teacher = remember_teacher(model) if args.disback else None

    def attach(self, model: nn.Module, prompts: Any = None) -> None:
        """Once the networks are wrapped. `--ckpt_only_path` has been loaded by then.

        prompts: the data set that the generator's prompts come from; EDM has none.
        """
        if self._teacher is not None:
            self.start(DMD2Host(model, self._teacher, prompts), self._adapter)
        # with both, --checkpoint_path wins, as in DMD2: its side file comes with it
        if self._args.ckpt_only_path is not None and self._args.checkpoint_path is None:
            self.load(self._args.ckpt_only_path)

    def start_from(self, folder: str, session: DisBack) -> None:
        installation = session.installation
        teacher = installation.reference.tensors
        report = installation.install(0, teacher)
        if report.changed_tensors:
            raise SessionError(
                f"{folder} has no {side_file.FILE_NAME}, and its real_unet is not the teacher of "
                f"--model_id ({report.changed_tensors} of {report.num_tensors} tensors differ): a "
                "node left by an interrupted copy of a checkpoint, or a checkpoint of another "
                "model or precision. Give a whole checkpoint, or the --model_id it was made with"
            )

        def reset() -> None:
            installation.load_fake_score(teacher)
            logger.warning(
                "%s was made without --disback: DisBack starts at this step, its generator is the "
                "initial student, and the fake score is reset to the teacher (its optimizer state, "
                "where the checkpoint holds one, is not reset)",
                folder,
            )

        session.before_path = reset
