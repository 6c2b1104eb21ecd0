"""Decisions from what is measured on the student's samples: whether to record, nodes, the walk.

A residual is (D(x_t) - x0) / sigma of a network on the student's current samples, the error of an
eps-prediction. Its mean square is the network's loss here: 1 is what doing nothing gives (D = x_t),
so a network above it does not know these samples at all. Without a measure nothing is decided, the
caps hold.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from disback_plugin.config_base import StrictModel
from disback_plugin.errors import SessionError

# A network's residuals and the student's samples x0, of one shape and the same draws every time.
Measure = Callable[[nn.Module], tuple[Tensor, Tensor]]
Start = Literal["known", "common", "path"]
IDLE_LOSS = 1.0  # of a network that leaves x_t as it is


class AutoRecord(StrictModel):
    """Automatic recording (stage 1): `record: {num_steps: CAP, auto: {}}`, nodes log-spaced.

    min_loss: a teacher whose loss is below it knows the student already: nothing is recorded, the
        teacher answers from there on, and the run is one with a fixed teacher.
    common: nothing is recorded either where that share of the teacher's pull, or more, is common
        to all samples (see `TeacherPull`): a path would damp a pull that is right as it is. 1: a
        path is recorded all the same.
    stop_at: recording ends at the node whose loss is this fraction of the teacher's, or less.
    noise: a node is left out unless its loss is below this fraction of that of the node before it.
    """

    min_loss: float = Field(default=IDLE_LOSS, ge=0)
    common: float = Field(default=0.5, gt=0, le=1)
    stop_at: float = Field(default=0.1, gt=0, lt=1)
    noise: float = Field(default=0.95, gt=0, le=1)

    def start(self, teacher: "TeacherPull") -> Start:
        """What the student's samples call for: a path, or none because of `min_loss`, `common`.

        Raises SessionError where the pull is not finite.
        """
        if not teacher.finite:
            raise SessionError(
                f"on the student's samples the teacher's loss is {teacher.loss}, and the common "
                f"share of its pull {teacher.common}, by the measure: the student's samples "
                "must be finite before its first update, and noise levels above 0"
            )
        if teacher.loss < self.min_loss:
            return "known"
        return "common" if self.common < 1 and teacher.common >= self.common else "path"


@dataclass(frozen=True)
class TeacherPull:
    """Where the teacher pulls the student's samples, from its residuals r on them.

    That is its pull against a fake score that knows the samples (D_fake = x0). loss: E |r|^2 per
    data dimension. common: the share of it that is one shift of all samples and one scaling about
    their mean, r = a + b (x0 - mean x0): the R^2 of that regression, a shaped as a sample and b a
    number, adjusted for what it fits by chance; 0 where the samples are too few to tell. Under few
    (16, say) it is a matter of luck. The noise levels differ from sample to sample, so also a pull
    all alike stays below 1, the further the more they spread: exact denoisers far from their data
    have 0.5 to 0.9 with EDM's lognormal levels. Levels much wider want a lower `common`.
    """

    loss: float
    common: float

    @property
    def finite(self) -> bool:
        """False where samples or answers are not."""
        return math.isfinite(self.loss + self.common)


@dataclass(frozen=True)
class PullSums:
    """Sums over a rank's samples, in float64 on the CPU, which add up to those of the batch."""

    num: int
    residual: Tensor
    sample: Tensor
    residual_squared: float
    sample_squared: float
    product: float

    @classmethod
    def of(cls, residual: Tensor, samples: Tensor) -> "PullSums":
        """From tensors (B, *data)."""
        r, x = (value.flatten(1).cpu().double() for value in (residual, samples))
        products = [float((left * right).sum()) for left, right in ((r, r), (x, x), (r, x))]
        return cls(len(r), r.sum(0), x.sum(0), *products)

    @staticmethod
    def pull(ranks: Sequence["PullSums"]) -> TeacherPull:
        """Of the whole batch."""
        num = sum(rank.num for rank in ranks)
        r, x = (sum(getattr(rank, n) for rank in ranks) / num for n in ("residual", "sample"))
        rr, xx, rx = (
            sum(getattr(rank, n) for rank in ranks) / num
            for n in ("residual_squared", "sample_squared", "product")
        )
        loss, num_values, num_fitted = rr / r.numel(), num * r.numel(), r.numel() + 1
        if num_values <= num_fitted or rr == 0:
            return TeacherPull(loss, 0.0)
        spread = xx - float(x @ x)
        scaling = 0.0 if spread <= 0 else (rx - float(r @ x)) ** 2 / spread
        left = 1 - (float(r @ r) + scaling) / rr
        return TeacherPull(loss, 1 - left * num_values / (num_values - num_fitted))


@dataclass
class RecordingState:
    """Losses seen while recording: the teacher's, then that of every node kept. JSON-able."""

    losses: list[float] = field(default_factory=list)

    def keep(self, rule: AutoRecord, loss: float, last: bool) -> bool:
        """Whether a node of that loss is nearer to the student than the one before, or noise.

        A path needs one node: where all were noise, the last is kept.
        """
        nearer = loss < rule.noise * self.losses[-1]
        if nearer or (last and len(self.losses) == 1 and math.isfinite(loss)):
            self.losses.append(loss)
            return True
        return False

    def near_enough(self, rule: AutoRecord) -> bool:
        """Whether the last node kept ends the recording."""
        return len(self.losses) > 1 and self.losses[-1] <= rule.stop_at * self.losses[0]


def loss_of(residual: Tensor) -> float:
    """E |D - x0|^2 / sigma^2 per data dimension."""
    return float(residual.cpu().double().square().mean())


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
