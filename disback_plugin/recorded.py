"""A path that lies there: whose it is, whether it is the right one; the fake score at its end."""

import logging
from pathlib import Path

import torch
from torch import nn

from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import gather, is_main
from disback_plugin.errors import ConfigError, SessionError, count
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation
from disback_plugin.real_score.installation import is_sharded
from disback_plugin.real_score.weights import local_part
from disback_plugin.tensors import bits

logger = logging.getLogger("disback")


def open_recorded(
    config: DisBackConfig, installation: Installation, student: nn.Module
) -> DegradationPath:
    """Open the path in `config.path` and start the fake score at its last node.

    Raises PathError (damaged, of another teacher), SessionError (unfinished), ConfigError (the
    settings ask for a recording that would give another path).
    """
    assert config.path is not None
    path = DegradationPath.open(config.path, installation.reference)
    if not path.complete:
        raise SessionError(
            f"{path.folder} holds an unfinished path ({count(len(path), 'node')}): resume "
            "the run that records it from its checkpoint; if it has none, delete the folder"
        )
    path.check_files()
    _check_recording(path, config, student)
    installation.load_fake_score(path.read(len(path)))
    logger.warning(
        "reusing %s: nothing is recorded, the fake score starts from node %d",
        *(path.folder, len(path)),
    )
    return path


def _check_recording(path: DegradationPath, config: DisBackConfig, student: nn.Module) -> None:
    """Asked to record, but a path lies there: it must be the one that would be recorded."""
    if config.record is None:
        return
    recorded, settings = dict(path.manifest.recording), config.recording_settings()
    recorded.pop("student", None)
    if recorded != settings:
        differs = f"was recorded with {recorded}, the settings say {settings}"
    elif path.student not in (None, parameters_checksum(student)):
        differs = (
            "was recorded with another initial student (or this run was resumed: then call "
            "load_state_dict() before the first step)"
        )
    else:
        return
    raise ConfigError(
        f"{path.folder} {differs}: leave 'record' out to reuse it all the same, or give another "
        "folder"
    )


def warn_if_resumed(path: DegradationPath, student: nn.Module, step: int) -> None:
    """Say what a resume without `load_state_dict` looks like: a late step, a trained student."""
    if step > 1 and path.student not in (None, parameters_checksum(student)) and is_main():
        logger.warning(
            "the first step is %d, and the student is not the one that %s was recorded for: the "
            "walk begins at its last node. If this run was resumed, call load_state_dict() first",
            *(step, path.folder),
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


def parameters_checksum(module: nn.Module) -> int:
    """A checksum over the bits of all parameters, made on their device: any training changes it.

    The same on every rank; of a sharded module, over all shards.
    """
    total, is_cut = 0, is_sharded(module)
    for position, parameter in enumerate(module.parameters(), start=1):
        own = local_part(parameter)
        is_cut |= own is not parameter
        total += position * int(bits(own).sum(dtype=torch.int64))
    if is_cut:
        total = sum(gather(total))
    return total % (1 << 63)
