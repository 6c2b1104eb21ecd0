"""A path that lies there: whose it is, whether it is the right one; the fake score at its end."""

import logging
from pathlib import Path

import torch
from torch import nn

from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import gather
from disback_plugin.errors import ConfigError, SessionError, count
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation
from disback_plugin.real_score.installation import is_sharded

logger = logging.getLogger("disback")
_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


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
        differs = "was recorded with another initial student"
    else:
        return
    raise ConfigError(
        f"{path.folder} {differs}: leave 'record' out to reuse it all the same, or give another "
        "folder"
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
    total = 0
    for position, parameter in enumerate(module.parameters(), start=1):
        bits = parameter.detach().contiguous().view(-1).view(_INTEGER[parameter.element_size()])
        total += position * int(bits.sum(dtype=torch.int64))
    if is_sharded(module):
        total = sum(gather(total))
    return total % (1 << 63)
