"""The session's state as a JSON file in a host's own checkpoint folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disback_plugin.errors import SessionError
from disback_plugin.files import write_json
from disback_plugin.session import DisBack

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
