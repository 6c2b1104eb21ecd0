"""What a session tells its host at a step."""

from dataclasses import dataclass
from typing import Literal

from disback_plugin.real_score import Switch

Stage = Literal["record", "backtrack", "teacher"]


@dataclass(frozen=True)
class Turn:
    """What the host does at a step. `node` answers as the real score; 0 is the teacher.

    update_student is False while recording: no student update, no step of its optimizer, scheduler
    or EMA. `switch` is set at the step at which another node was installed.
    """

    step: int
    stage: Stage
    node: int
    update_student: bool
    switch: Switch | None = None
