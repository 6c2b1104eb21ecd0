"""What joins a host's own checkpoint folder: the session's state, and tensors of every rank."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.distributed import gather, rank
from disback_plugin.errors import SessionError, count
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.sealed import damage_of, read_sealed, write_sealed
from disback_plugin.session import DisBack
from disback_plugin.tensors import under

FILE_NAME = "disback.json"
OLDER = "resume an older checkpoint"


@dataclass(frozen=True)
class SavedSession:
    """`node` was in the teacher's place when the host saved its weights; 0 is the teacher."""

    state: dict[str, Any]
    node: int

    @property
    def recording(self) -> bool:
        """Whether it was saved in the middle of a recording."""
        progress = self.state["progress"]
        first, last = progress["first_step"], progress["last_step"]
        num_done = 0 if last is None else last - first + 1
        return first is not None and num_done < progress["num_record_steps"]

    def refuse_recording(self, folder: str) -> None:
        """Raise SessionError where a run without `--disback` would go on from a recording."""
        if self.recording:
            raise SessionError(
                f"{folder} was saved while recording: its student is the initial one, its fake "
                "score half recorded. Resume it with --disback and the settings it was made with"
            )


def write(folder: Path, session: DisBack) -> None:
    """Write the state, on rank 0: after the step's end, before the host writes its weights.

    A save that is cut short then never leaves a node in the teacher's place without this file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = session.state_dict()
    data = {"folder": folder.name, "node": session.installed_node, "state": state}
    write_sealed(folder / FILE_NAME, data)


def read(folder: Path) -> SavedSession | None:
    """The saved state, None where the checkpoint was made without.

    SessionError if it is damaged, or of another step than the folder's name says.
    """
    file = folder / FILE_NAME
    if not os.path.lexists(file):
        return None
    data = read_sealed(file, SessionError, OLDER)
    with damage_of(file, SessionError, OLDER):
        saved, made_for = SavedSession(dict(data["state"]), int(data["node"])), data.get("folder")
        assert saved.recording in (True, False)  # what tells it is there
    _check_folder(file, made_for)
    return saved


def write_ranks(file: Path, states: list[dict[str, Tensor]]) -> None:
    """Write all ranks' tensors into one safetensors file, in order of rank, from rank 0."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}/{name}": value
        for number, state in enumerate(states)
        for name, value in state.items()
    }
    write_tensors(file, tensors, {"folder": file.parent.name}, seal=True)


def read_own_rank(file: Path) -> dict[str, Tensor]:
    """This rank's tensors, on every rank; SessionError where there were more or fewer ranks."""
    tensors, metadata = read_tensors(file, SessionError, sealed=True)
    _check_folder(file, metadata.get("folder"))
    with damage_of(file, SessionError, OLDER):
        num_saved = 1 + max(int(name.split("/")[0]) for name in tensors)
    num_ranks = len(gather(rank()))
    if num_saved != num_ranks:
        saved = count(num_saved, "process", "processes")
        raise SessionError(
            f"{file.parent} was made by {saved}, this run has {num_ranks}: resume "
            f"with as many, or remove {file} to resume in the trainer's own way"
        )
    return under(f"{rank()}/", tensors)


def _check_folder(file: Path, made_for: Any) -> None:
    """Raise SessionError where a checkpoint's file was written for one of another step."""
    own, other = (
        re.fullmatch(r"(\D*)(\d+)", str(name)) for name in (file.resolve().parent.name, made_for)
    )
    if own and other and own[1] == other[1] and int(own[2]) != int(other[2]):
        raise SessionError(
            f"{file} was written for {made_for}, not for this folder: files of two checkpoints are "
            f"mixed, or it was renamed; {OLDER}"
        )
