"""What the patched scripts of DMD2 call: `trainer.disback`. Without `--disback` it does nothing."""

import argparse
import logging
from pathlib import Path

from torch import nn

from disback_plugin.adapters import side_file
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from disback_plugin.adapters.flags import add_arguments, check_arguments, config_from
from disback_plugin.distributed import is_main
from disback_plugin.errors import SessionError
from disback_plugin.real_score import Installation
from disback_plugin.session import DisBack

__all__ = ["Overlay", "add_arguments", "check_arguments"]

logger = logging.getLogger("disback")


class Overlay:
    """One training run's DisBack session, from the script's arguments.

    `update_student` is False while recording: DMD2 then skips its generator and its pictures.
    """

    def __init__(self, args: argparse.Namespace, model: nn.Module, adapter: str) -> None:
        """Right after the model is built: the teacher is remembered before a checkpoint loads."""
        self._args, self._adapter = args, adapter
        self._teacher = remember_teacher(model) if args.disback else None
        self._session: DisBack | None = None
        self._has_begun = False
        self.update_student = True

    def attach(self, model: nn.Module) -> None:
        """Once the networks are wrapped. `--ckpt_only_path` has been loaded by then."""
        if self._teacher is not None:
            logging.basicConfig(format="%(message)s")
            logger.setLevel(logging.INFO if is_main() else logging.WARNING)
            host, config = DMD2Host(model, self._teacher), config_from(self._args)
            self._session = DisBack.attach(host, adapter=self._adapter, config=config)
        # with both, --checkpoint_path wins, as in DMD2: its side file comes with it
        if self._args.ckpt_only_path is not None and self._args.checkpoint_path is None:
            self.load(self._args.ckpt_only_path)

    def begin_step(self, step: int) -> None:
        """Before a training step, on every rank."""
        if self._session is not None:
            self._has_begun = True
            self.update_student = self._session.begin_step(step).update_student

    def end_step(self, step: int) -> None:
        """After a training step, on every rank, before DMD2 saves."""
        if self._session is not None:
            self._session.end_step(step)

    def metrics(self, step: int) -> dict[str, float]:
        """What joins DMD2's W&B dicts."""
        return {} if self._session is None else self._session.metrics(step)

    def save(self, folder: str) -> None:
        """Write the session's state into a checkpoint's folder, on rank 0, before the weights."""
        if self._session is not None:
            side_file.write(Path(folder), self._session)

    def load(self, folder: str) -> None:
        """Go on from DMD2's checkpoint folder, on every rank, after DMD2 loaded its own part."""
        saved = side_file.read(Path(folder))
        if self._session is None:
            # without the file nothing tells a node from the teacher: none is remembered here
            if saved is not None and saved.node != 0:
                raise SessionError(
                    f"{folder} was saved on the way back: its real_unet holds node {saved.node}, "
                    "not the teacher. Resume it with --disback and the settings it was made with"
                )
        elif saved is not None:
            self._session.load_state_dict(saved.state)
        elif self._session.active:
            self._start_from(self._session.installation, folder)

    def close(self) -> None:
        """After the last step; a resume with no step left has nothing to warn about."""
        if self._session is not None and self._has_begun:
            self._session.close()

    @staticmethod
    def _start_from(installation: Installation, folder: str) -> None:
        """Begin at a checkpoint that was made without `--disback`, or refuse it."""
        teacher = installation.reference.tensors
        report = installation.install(0, teacher)
        if report.changed_tensors:
            raise SessionError(
                f"{folder} has no {side_file.FILE_NAME}, and its real_unet is not the teacher of "
                f"--model_id ({report.changed_tensors} of {report.num_tensors} tensors differ): a "
                "node left by an interrupted copy of a checkpoint, or a checkpoint of another "
                "model or precision. Give a whole checkpoint, or the --model_id it was made with"
            )
        installation.load_fake_score(teacher)
        logger.warning(
            "%s was made without --disback: DisBack starts at this step, its generator is the "
            "initial student, and the fake score is reset to the teacher (its optimizer state, "
            "where the checkpoint holds one, is not reset)",
            folder,
        )
