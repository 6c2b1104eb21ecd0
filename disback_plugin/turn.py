"""What a session tells its host at a step."""

from dataclasses import dataclass
from typing import Literal

from disback_plugin.real_score import Switch

Stage = Literal["record", "backtrack", "teacher"]


@dataclass(frozen=True)
class Turn:
    """What the host does at a step. `node` answers as the real score; 0 is the teacher.

    update_student is False while recording, at first or in mid-run: no student update, no step of
    its optimizer, scheduler or EMA. `switch` is set at the step at which another node was
    installed. The student's learning rate is to be multiplied by `student_lr_factor`: not 1 only in
    the first steps of the schedule `adaptive` where automatic recording found a pull that all
    samples share (`adaptive.Stride`).
    """

    step: int
    stage: Stage
    node: int
    update_student: bool
    switch: Switch | None = None
    student_lr_factor: float = 1.0
