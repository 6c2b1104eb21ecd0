"""What a session's host may have done wrong, said while there is time."""

import logging
from pathlib import Path

from torch import nn

from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation
from disback_plugin.recorder import parameters_checksum

logger = logging.getLogger("disback")


def check_functions(**given: object) -> None:
    """Raise ConfigError for what is neither None nor to be called."""
    for name, value in given.items():
        if value is not None and not callable(value):
            raise ConfigError(f"{name} must be a function, not {value!r}")


def check_student(student: nn.Module, checksum: int | None, path: Path | None) -> None:
    """While recording: raise SessionError unless the student is what it was at the start."""
    if parameters_checksum(student) != checksum:
        raise SessionError(
            "the student changed during recording, so the path leads elsewhere: skip its "
            "update while turn.update_student is False (Eq. 7 holds the student still). Delete "
            f"{path} before the next try"
        )


def check_owner(path: DegradationPath, checksum: int | None) -> None:
    """On resume: raise SessionError unless the path was recorded for this checkpoint's student."""
    if None not in (path.student, checksum) and path.student != checksum:
        raise SessionError(
            f"{path.folder} was recorded for another student than the checkpoint's: another run, "
            "or this one after an older checkpoint, has recorded it again. Go on from a checkpoint "
            "of that recording, or from before it"
        )


def is_too_short(path: DegradationPath) -> bool:
    """Whether automatic recording has ended with too few nodes to walk back."""
    return path.complete and "auto" in path.manifest.recording and len(path) < 2


def check_used(installation: Installation, num_evaluations: int) -> None:
    """The whole path was walked: with `separate` or `lora` the host must have asked for it."""
    if installation.needs_real_score and num_evaluations == 0:
        raise SessionError(
            f"every node was installed, but none was used: with installation "
            f"{installation.name!r} call the network of `with disback.real_score() as network:` as "
            "the real score, not the teacher module"
        )


def warn_at_end(num_switches: int, installed_node: int, no_path: bool, waits: bool) -> None:
    """Of a run that walked no node though it has a path, ended on one, or waits for one."""
    if waits:
        logger.warning("the run ended before a path was worth recording: none was")
    if num_switches == 0 and not no_path:
        logger.warning(
            "DisBack was attached but never installed a node: training stopped during "
            "recording, or begin_step was not called"
        )
    if installed_node:
        logger.warning(
            "training ended while node %d answers as the real score, before the teacher's "
            "turn: train longer, or shorten the schedule; restore_teacher() brings it back",
            installed_node,
        )
