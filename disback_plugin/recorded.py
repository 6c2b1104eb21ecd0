"""A path that lies there: whose it is, whether it is the right one; the fake score at its end."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from disback_plugin.config import DisBackConfig
from disback_plugin.distributed import gather, is_main, on_every, same_on_every
from disback_plugin.errors import ConfigError, PathError, SessionError, count
from disback_plugin.path import DegradationPath
from disback_plugin.path.conversion import CONVERTED
from disback_plugin.path.stored_node import verified
from disback_plugin.real_score import Installation
from disback_plugin.real_score.installation import is_fully_sharded, is_sharded
from disback_plugin.real_score.weights import holds_first, local_part, put_away, repeated
from disback_plugin.tensors import bit_sum, bits

logger = logging.getLogger("disback")
SEEN_WITHIN = 30.0  # seconds in which a shared disk shows every rank what rank 0 wrote


def open_recorded(
    config: DisBackConfig, installation: Installation, student: nn.Module
) -> DegradationPath:
    """Open the path in `config.path` and start the fake score at its last node.

    Raises PathError (damaged, of another teacher), SessionError (unfinished), ConfigError (the
    settings ask for a recording that would give another path).
    """
    assert config.path is not None

    def check(path: DegradationPath) -> None:
        if not path.complete:
            raise SessionError(
                f"{path.folder} holds an unfinished path ({count(len(path), 'node')}): resume "
                "the run that records it from its checkpoint; if it has none, delete the folder"
            )
        path.check_files()

    path = _open(config.path, installation, check)
    checksum = parameters_checksum(student) if config.record is not None else None
    on_every(lambda: _check_recording(path, config, checksum), "comparing recordings")
    parts = installation.fake_score_parts()  # of all ranks together the whole node
    installation.load_fake_score(
        path.read_together(len(path), lambda index: verified(path.open_node(index), parts))
    )
    logger.warning(
        "reusing %s: nothing is recorded, the fake score starts from node %d",
        *(path.folder, len(path)),
    )
    _tell_other_host(path, config)
    return path


def _tell_other_host(path: DegradationPath, config: DisBackConfig) -> None:
    """Warn where the path was recorded under other settings of the host, with what differs."""
    then, now = path.manifest.recording.get("host"), config.host
    if not then or not now or not is_main():
        return  # not known on one side
    differs = [
        f"{name} {then.get(name, 'not set')} (now {now.get(name, 'not set')})"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if differs:
        logger.warning(
            "%s was recorded under other settings of the host, and its nodes are of those: %s",
            *(path.folder, ", ".join(differs)),
        )


def reopen(
    config: DisBackConfig,
    installation: Installation,
    student: int | None,
    saved: Sequence[Any] | None,
) -> DegradationPath:
    """Open a checkpoint's path, on every rank; SessionError where it was recorded again since.

    student: its checksum; saved: what `recorded_so_far` gave, None in an earlier version's state.
    """
    assert config.path is not None
    path = _open(config.path, installation, lambda path: _check_owner(path, student, saved))
    _tell_other_host(path, config)
    return path


def recorded_so_far(path: DegradationPath) -> list[Any]:
    """What a checkpoint keeps of its path: the number of nodes, and which."""
    return [len(path), path.manifest.recording_id(len(path))]


def _open(
    folder: Path, installation: Installation, check: Callable[[DegradationPath], None]
) -> DegradationPath:
    """Open and check a path on every rank; an error on all where they see different ones."""
    found: list[DegradationPath] = []

    def look() -> str:
        found.append(DegradationPath.open(folder, installation.reference))
        check(found[0])
        return found[0].manifest.digest()[:16]

    same_on_every(look, f"opening the path in {folder}")
    return found[0]


def _check_recording(path: DegradationPath, config: DisBackConfig, checksum: int | None) -> None:
    """Asked to record, but a path lies there: it must be the one that would be recorded."""
    if config.record is None:
        return
    recorded, settings = dict(path.manifest.recording), config.recording_settings()
    for known in ("student", "host", CONVERTED):
        recorded.pop(known, None)
    if recorded != settings:
        differs = f"was recorded with {recorded}, the settings say {settings}"
    elif path.student not in (None, checksum):
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


class HeldStudent:
    """The student while recording, which holds it still (Eq. 7)."""

    def __init__(self, student: nn.Module) -> None:
        self._student = student
        self._sums: list[int] | None = None  # by parameter, of this rank, when it was right

    def check(self, checksum: int | None, path: Path | None) -> None:
        """Raise SessionError unless the student is what it was at the start; on every rank.

        The first time by `checksum`, then by sums that are read faster.
        """
        put_away(self._student)
        sums = [int(bit_sum(local_part(value))) for value in self._student.parameters()]
        same = sums == self._sums
        if self._sums is None:
            same, self._sums = parameters_checksum(self._student) == checksum, sums
        if not same:
            raise SessionError(
                "the student changed during recording, so the path leads elsewhere: skip its "
                "update while turn.update_student is False (Eq. 7 holds the student still). Delete "
                f"{path} before the next try"
            )


def _check_owner(path: DegradationPath, checksum: int | None, saved: Sequence[Any] | None) -> None:
    num_nodes, recording = saved or (0, None)
    cut = not path.complete and len(path) < num_nodes  # told better where recording goes on
    if recording is not None and not cut and path.manifest.recording_id(num_nodes) != recording:
        raise SessionError(
            f"{path.folder} does not hold the nodes that the checkpoint was made after: another "
            "run, or this one after an older checkpoint, has recorded it again. Go on from a "
            "checkpoint of that recording, or from before it"
        )
    if None not in (path.student, checksum) and path.student != checksum:
        raise SessionError(
            f"{path.folder} was recorded for another student than the checkpoint's: another run, "
            "or this one after an older checkpoint, has recorded it again. Go on from a checkpoint "
            "of that recording, or from before it"
        )


def catch_up(path: DegradationPath, digest: str) -> None:
    """Read the path's manifest until it is the one of that digest, as rank 0 left it."""
    if is_main():
        return  # it has written it
    end, seen = time.monotonic() + SEEN_WITHIN, ""
    while True:
        try:
            path.refresh()
        except PathError as error:
            seen = f" ({error})"
        if path.manifest.digest() == digest:
            return
        if time.monotonic() > end:
            raise SessionError(
                f"{path.folder} is not what rank 0 wrote, even after {SEEN_WITHIN:g} seconds{seen}:"
                " the path must lie on a file system that all ranks share"
            )
        time.sleep(0.1)


def is_too_short(path: DegradationPath) -> bool:
    """Whether automatic recording has ended with too few nodes to walk back."""
    return path.complete and "auto" in path.manifest.recording and len(path) < 2


def parameters_checksum(module: nn.Module) -> int:
    """A checksum over the bits of all parameters, made on their device: any training changes it.

    The same on every rank; of a sharded module, over all shards, however many there are.
    """
    put_away(module)
    total, of_dtensors, elsewhere = 0, is_fully_sharded(module), repeated(module)
    is_cut = of_dtensors or is_sharded(module)
    for position, parameter in enumerate(module.parameters(), start=1):
        if id(parameter) in elsewhere or (of_dtensors and not holds_first(parameter)):
            continue  # counted there
        own = local_part(parameter)
        is_cut |= own is not parameter
        total += position * int(bits(own).sum(dtype=torch.int64))
    if is_cut:
        total = sum(gather(total))
    return total % (1 << 63)
