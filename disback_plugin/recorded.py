"""A path recorded before: checked to be the right one, and the fake score put at its last node."""

import logging

from torch import nn

from disback_plugin.config import DisBackConfig
from disback_plugin.errors import ConfigError, SessionError, count
from disback_plugin.path import DegradationPath
from disback_plugin.real_score import Installation
from disback_plugin.recorder import parameters_checksum

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
        differs = "was recorded with another initial student"
    else:
        return
    raise ConfigError(
        f"{path.folder} {differs}: leave 'record' out to reuse it all the same, or give another "
        "folder"
    )
