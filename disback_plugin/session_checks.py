"""What a session's host may have done wrong, said while there is time."""

import logging
from pathlib import Path

from torch import nn

from disback_plugin.errors import ConfigError, SessionError
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation
from disback_plugin.recorder import parameters_checksum

logger = logging.getLogger("disback")


def check_functions(measure: object, reset_fake_optimizer: object) -> None:
    """Raise ConfigError for a measure that cannot be called, and for what was removed."""
    if measure is not None and not callable(measure):
        raise ConfigError(f"measure must be a function, not {measure!r}")
    if reset_fake_optimizer is not None:
        raise ConfigError(
            "reset_fake_optimizer was removed: no path is recorded in mid-run any more, as in no "
            "held-out setting it was faster than longer steps of the student alone "
            "(experiments/RESULTS.md, Tried and removed); leave the argument out"
        )


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


def warn_at_end(num_switches: int, installed_node: int, no_path: bool) -> None:
    """Of a run that walked no node though it has a path, or ended on one."""
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
