"""Decisions from measured losses: which nodes are kept, when recording ends, when to walk on.

A loss here is a network's denoising loss on the student's current samples, per data dimension in
units of the noise: E |D(x_t) - x0|^2 / sigma^2, the mean squared error of an eps-prediction. 1 is
what doing nothing gives (D = x_t), so a network above 1 does not know these samples at all.
Without a measure nothing is decided here, and the caps hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import Field

from disback_plugin.config_base import StrictModel

Measure = Callable[[], float]
GIVE_UP_AT = 1  # recording steps, after which the pace is known


class AutoRecord(StrictModel):
    """Automatic recording (stage 1): `record: {num_steps: CAP, auto: {}}`, nodes log-spaced.

    min_loss: a teacher whose loss is below it knows the student already: nothing is recorded, the
        teacher answers from the first step on, and the run is one with a fixed teacher.
    stop_at: recording ends at the node whose loss is this fraction of the teacher's, or less.
    noise: a node is left out unless its loss is below this fraction of that of the node before it.
    reach: after its first step recording is given up, and the teacher answers, unless at that pace
        the loss will be down to this fraction of the teacher's at `num_steps`: the student is then
        too far away for so short a recording to pay. 1 never gives up.
    """

    min_loss: float = Field(default=1.0, ge=0)
    stop_at: float = Field(default=0.3, gt=0, lt=1)
    noise: float = Field(default=0.95, gt=0, le=1)
    reach: float = Field(default=0.3, gt=0, le=1)


@dataclass
class RecordingState:
    """Losses seen while recording: the teacher's, then that of every node kept. JSON-able."""

    losses: list[float] = field(default_factory=list)

    def begin(self, rule: AutoRecord, teacher_loss: float) -> bool:
        """Whether to record at all, for a teacher of that loss."""
        self.losses = [teacher_loss]
        return teacher_loss >= rule.min_loss

    def keep(self, rule: AutoRecord, loss: float, last: bool) -> bool:
        """Whether a node of that loss is nearer to the student than the one before, or noise.

        A path needs one node: where all were noise, the last is kept.
        """
        nearer = loss < rule.noise * self.losses[-1]
        if nearer or (last and len(self.losses) == 1):
            self.losses.append(loss)
            return True
        return False

    def hopeless(self, rule: AutoRecord, loss: float, num_done: int, num_steps: int) -> bool:
        """Whether to give up, judged once, after the first step, by the loss's pace so far."""
        if num_done != GIVE_UP_AT or num_steps <= GIVE_UP_AT:
            return False
        share = loss / self.losses[0]
        return not share ** (num_steps / num_done) <= rule.reach

    def near_enough(self, rule: AutoRecord) -> bool:
        """Whether the last node kept ends the recording."""
        return len(self.losses) > 1 and self.losses[-1] <= rule.stop_at * self.losses[0]


@dataclass
class Walk:
    """Where an adaptive walk is: the node, since when, its first loss. JSON-able.

    Steps count from the start of backtracking; `decided` is the last step decided on.
    """

    node: int | None = None
    since: int = 0
    first: float | None = None
    decided: int = -1


def log_spaced(num_steps: int) -> tuple[int, ...]:
    """1, 2, 4, 8, ..., and num_steps: early nodes are damped teachers, late ones tend to noise."""
    doublings = [2**power for power in range(num_steps.bit_length())]
    return tuple(dict.fromkeys([*(step for step in doublings if step < num_steps), num_steps]))
