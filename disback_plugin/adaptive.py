"""Decisions from what is measured on the student's samples: nodes, their end, the walk.

A residual is (D(x_t) - x0) / sigma of a network on the student's current samples, the error of an
eps-prediction. Its mean square is the network's loss here: 1 is what doing nothing gives (D = x_t),
so a network above 1 does not know these samples at all. The difference of two residuals is the
pull of one network against the other (Eq. 8). Without a measure nothing is decided, the caps hold.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import Field
from torch import Tensor, nn

from disback_plugin.config_base import StrictModel

Measure = Callable[[nn.Module], Tensor]  # a network's residuals, of the same draws every time
Number = Callable[[], float]


class AutoRecord(StrictModel):
    """Automatic recording (stage 1): `record: {num_steps: CAP, auto: {}}`, nodes log-spaced.

    min_loss: a teacher whose loss is below it knows the student already: nothing is recorded, the
        teacher answers from the first step on, and the run is one with a fixed teacher.
    parallel: at the second node recording is given up, and the teacher answers, where the first
        node pulls as the teacher does, by the cosine of their pulls: the path would damp the
        teacher, not correct it. The fake score starts again as the teacher. 1 never gives up.
    stop_at: recording ends at the node whose loss is this fraction of the teacher's, or less.
    noise: a node is left out unless its loss is below this fraction of that of the node before it.
    """

    min_loss: float = Field(default=1.0, ge=0)
    parallel: float = Field(default=0.8, gt=0, le=1)
    stop_at: float = Field(default=0.1, gt=0, lt=1)
    noise: float = Field(default=0.95, gt=0, le=1)


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

    def gives_up(self, rule: AutoRecord, cosine: Number) -> bool:
        """Whether the second node, just kept, is dropped again, and the teacher answers.

        cosine: of the first node's pull with the teacher's, the fake score being the second node.
        """
        if len(self.losses) != 3 or rule.parallel == 1 or not cosine() >= rule.parallel:
            return False
        self.losses.pop()
        return True

    def near_enough(self, rule: AutoRecord) -> bool:
        """Whether the last node kept ends the recording."""
        return len(self.losses) > 1 and self.losses[-1] <= rule.stop_at * self.losses[0]


def loss_of(residual: Tensor) -> float:
    """E |D - x0|^2 / sigma^2 per data dimension."""
    return float(residual.float().square().mean())


def pull_products(fake: Tensor, node: Tensor, teacher: Tensor) -> tuple[float, float, float]:
    """p.q, p.p and q.q of the node's pull p and the teacher's q, from residuals of one shape.

    Sums over ranks are those of the whole batch, so their cosine is p.q / sqrt(p.p q.q).
    """
    p, q = ((fake - other).double().flatten() for other in (node, teacher))
    return float(p @ q), float(p @ p), float(q @ q)


def cosine_of(products: tuple[float, float, float]) -> float:
    """The cosine of two pulls; 0 where one of them is zero, which has no direction."""
    pq, pp, qq = products
    return pq / (pp * qq) ** 0.5 if pp * qq > 0 else 0.0


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
