"""What joins a host's own checkpoint folder: the session's state, and tensors of every rank."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.distributed import gather, rank
from disback_plugin.errors import SessionError, count
from disback_plugin.files import read_tensors, write_json, write_tensors
from disback_plugin.session import DisBack
from disback_plugin.tensors import under

FILE_NAME = "disback.json"


@dataclass(frozen=True)
class SavedSession:
    """`node` was in the teacher's place when the host saved its weights; 0 is the teacher."""

    state: dict[str, Any]
    node: int


def write(folder: Path, session: DisBack) -> None:
    """Write the state, on rank 0: after the step's end, before the host writes its weights.

    A save that is cut short then never leaves a node in the teacher's place without this file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = {"node": session.installed_node, "state": session.state_dict()}
    write_json(folder / FILE_NAME, data)


def read(folder: Path) -> SavedSession | None:
    """The saved state, None where the checkpoint was made without; SessionError if damaged."""
    file = folder / FILE_NAME
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return SavedSession(state=dict(data["state"]), node=int(data["node"]))
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise SessionError(f"{file} is damaged ({error}): resume an older checkpoint") from None


def write_ranks(file: Path, states: list[dict[str, Tensor]]) -> None:
    """Write all ranks' tensors into one safetensors file, in order of rank, from rank 0."""
    file.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{number}/{name}": value
        for number, state in enumerate(states)
        for name, value in state.items()
    }
    write_tensors(file, tensors)


def read_own_rank(file: Path) -> dict[str, Tensor]:
    """This rank's tensors, on every rank; SessionError where there were more or fewer ranks."""
    tensors = read_tensors(file)[0]
    num_saved = 1 + max(int(name.split("/")[0]) for name in tensors)
    num_ranks = len(gather(rank()))
    if num_saved != num_ranks:
        saved = count(num_saved, "process", "processes")
        raise SessionError(
            f"{file.parent} was made by {saved}, this run has {num_ranks}: resume "
            f"with as many, or remove {file} to resume in the trainer's own way"
        )
    return under(f"{rank()}/", tensors)
