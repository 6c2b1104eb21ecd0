"""What a host's measure says on the student's samples: losses, and the teacher's pull on them.

A residual is (D(x_t) - x0) / sigma of a network on the student's current samples, the error of an
eps-prediction. Its mean square is the network's loss here: 1 is what doing nothing gives (D = x_t),
so a network above it does not know these samples at all. Without a measure nothing is decided, the
caps hold.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from disback_plugin.config import AutoRecord
from disback_plugin.distributed import gather, is_main, on_main
from disback_plugin.errors import ConfigError, SessionError, count
from disback_plugin.real_score import Installation

logger = logging.getLogger("disback")
FEW = 16  # samples
PATIENCE = 4  # due nodes in a row without a change: a warm-up, or GradScaler, skips first updates
# A network's residuals and the student's samples x0, of one shape and the same draws every time.
Measure = Callable[[nn.Module], tuple[Tensor, Tensor]]
Start = Literal["known", "common", "path"]


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

    @classmethod
    def of(cls, residual: Tensor, samples: Tensor) -> "TeacherPull":
        """From two tensors (B, *data), in float64 on the CPU."""
        r, x = (value.flatten(1).cpu().double() for value in (residual, samples))
        num, num_values, num_fitted = len(r), r.numel(), r.shape[1] + 1
        mean_r, mean_x = r.sum(0) / num, x.sum(0) / num
        rr, xx, rx = (float((a * b).sum()) / num for a, b in ((r, r), (x, x), (r, x)))
        loss = rr / r.shape[1]
        if num_values <= num_fitted or rr == 0:
            return cls(loss, 0.0)
        spread = xx - float(mean_x @ mean_x)
        scaling = 0.0 if spread <= 0 else (rx - float(mean_r @ mean_x)) ** 2 / spread
        left = 1 - (float(mean_r @ mean_r) + scaling) / rr
        return cls(loss, 1 - left * num_values / (num_values - num_fitted))

    def calls_for(self, rule: AutoRecord) -> Start:
        """What the student's samples call for: a path, or none because of `min_loss`, `common`.

        Raises SessionError where the pull is not finite: samples or answers are not.
        """
        if not math.isfinite(self.loss + self.common):
            raise SessionError(
                f"on the student's samples the teacher's loss is {self.loss}, and the common "
                f"share of its pull {self.common}, by the measure: the student's samples "
                "must be finite before its first update, and noise levels above 0"
            )
        if self.loss < rule.min_loss:
            return "known"
        return "common" if rule.common < 1 and self.common >= rule.common else "path"


@dataclass
class RecordingState:
    """Losses seen while recording: the teacher's, then that of every node kept. JSON-able.

    still: due nodes in a row, by now, that had the very loss of the network before them.
    """

    losses: list[float] = field(default_factory=list)
    still: int = 0

    def refuse_standstill(self, loss: float, step: int, last: bool) -> None:
        """Raise SessionError where the fake score cannot be what is measured, or never moved."""
        stands = math.isclose(loss, self.losses[-1], rel_tol=1e-12)
        self.still = self.still + 1 if stands else 0
        if self.still >= PATIENCE or (stands and last and len(self.losses) == 1):
            raise SessionError(
                f"after recording step {step} the fake score has the very loss of the network "
                f"before it, {loss:.6g}, as at {count(self.still, 'due node')} in a row: "
                "measure(network) must answer with the network it is given, and the fake score "
                "must be in training (in fp16: does GradScaler skip all its updates?)"
            )

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


class Measurement:
    """A host's measure over the whole batch, the same on all ranks; called on every rank."""

    def __init__(self, measure: Measure, installation: Installation, fake_score: nn.Module) -> None:
        self._measure, self._installation, self._fake_score = measure, installation, fake_score
        self._cost = self._told = (0, 0, 0.0)  # so far, on this rank: times, samples, seconds

    def loss(self, network: nn.Module) -> float:
        """Of a node that is installed as the real score."""
        residual, _ = self._ask(network)
        ranks = gather((len(residual), loss_of(residual)))
        return sum(num * loss for num, loss in ranks) / sum(num for num, _ in ranks)

    def fake_score_loss(self) -> float:
        """Of the fake score, which is the node that is due."""
        return self.loss(self._fake_score)

    def teacher(self) -> TeacherPull:
        """Of the teacher, while no node is installed."""
        with self._installation.evaluate() as network:
            ranks = gather(self._ask(network))
        residual, samples = (torch.cat(rows) for rows in zip(*ranks, strict=True))
        if len(residual) < FEW and is_main():
            logger.warning(
                "the measure gives %d samples in all: under %d the common share of a pull is a "
                "matter of luck",
                *(len(residual), FEW),
            )
        return on_main(lambda: TeacherPull.of(residual, samples), "finding the teacher's pull")

    def tell_cost(self) -> None:
        """Log, on rank 0, what measuring has cost so far, unless that was said."""
        if self._cost != self._told and is_main():
            num_asked, num_samples, seconds = self._told = self._cost
            logger.info(
                "measured %s, %s of this rank in all, in %.3g s",
                *(count(num_asked, "time"), count(num_samples, "sample"), seconds),
            )

    def _ask(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Residuals and samples on the CPU."""
        begun = time.perf_counter()
        found = self._measure(network)
        match found:
            case (Tensor() as residual, Tensor() as samples) if residual.shape == samples.shape:
                if residual.dim() > 1 and len(residual):
                    answer = residual.detach().cpu(), samples.detach().cpu()
                    num_asked, num_samples, seconds = self._cost
                    seconds += time.perf_counter() - begun
                    self._cost = num_asked + 1, num_samples + len(samples), seconds
                    return answer
        raise SessionError(
            f"measure(network) gave {_kind(found)}: it must return two tensors (B, *data), the "
            "residuals (D(x_t) - x0) / sigma of the network and the student's samples x0"
        )


def check_functions(measure: object, reset_fake_optimizer: object) -> None:
    """Raise ConfigError for a measure that cannot be called, and for what was removed."""
    if measure is not None and not callable(measure):
        raise ConfigError(f"measure must be a function, not {measure!r}")
    if reset_fake_optimizer is not None:
        raise ConfigError(
            "reset_fake_optimizer was removed: no path is recorded in mid-run any more, as in no "
            "held-out setting it was faster than longer steps of the student alone "
            "(experiments/RESULTS.md, Tried and removed); leave the argument out"
        )


def _kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(_kind(part) for part in value)})"
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
