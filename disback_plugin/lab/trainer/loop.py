"""One distillation step: the student's turn (Eq. 6), then the fake score's (Eq. 5).

This is a host's loop as a user would write it; DisBack's part is three calls. Without a session it
is plain score distillation, the arm `fixed`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.diffusion import (
    denoising_score_matching,
    diffuse,
    get_student_gradient,
    student_loss,
)
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import DistillConfig
from disback_plugin.lab.trainer.augment import augmented
from disback_plugin.lab.trainer.batches import Batch, BatchSampler
from disback_plugin.lab.trainer.network import TrainedNetwork
from disback_plugin.path import NodeEntry
from disback_plugin.path.pending import PendingNode
from disback_plugin.progress import Turn
from disback_plugin.session import DisBack

# Forward passes per sample, a backward counted as two.
STUDENT_TURN_PASSES = 5  # student forward and backward, fake score, real score
FAKE_TURN_PASSES = 4  # student forward, fake score forward and backward


@dataclass(frozen=True)
class Networks:
    """The three roles; the teacher is frozen, the others are in training.

    base: that of all three, where they are LoRAs on one.
    """

    teacher: nn.Module
    fake_score: TrainedNetwork
    student: TrainedNetwork
    base: nn.Module | None = None


@dataclass
class StepResult:
    """Losses and gradient norms as tensors (reading them waits for the device); None: no update."""

    turn: Turn | None
    entry: NodeEntry | PendingNode | None = None
    fake_loss: Tensor | None = None
    fake_grad_norm: Tensor | None = None
    student_loss: Tensor | None = None
    student_grad_norm: Tensor | None = None
    student_lr: float | None = None
    passes: float = 0


class Distillation:
    """The loop's body; `disback` is None for the baseline. All randomness comes from `sampler`."""

    def __init__(
        self,
        networks: Networks,
        config: ExperimentConfig,
        sampler: BatchSampler,
        accelerator: Accelerator,
        disback: DisBack | None,
    ) -> None:
        self.networks, self.config = networks, config.distill
        self.sigma_data = config.teacher.sigma_data
        self.sampler, self.accelerator, self.disback = sampler, accelerator, disback
        self.gradient = get_student_gradient(config.method)
        self.fake_sigmas = self.config.fake_sigmas or self.config.sigmas
        self._max_norm = self.config.clip_grad_norm
        self.record_sampler = make_record_sampler(sampler, config.distill)

    def train_step(self, step: int) -> StepResult:
        """Run host step `step`, counted from 0.

        Draws and schedules go by the student's updates: arms that record for longer or not at all
        see the same noise and the same schedule at the same update.
        """
        self.sampler.noise.seed_global(step)
        turn = self.disback.begin_step(step) if self.disback else None
        update = self._update_of(step)
        self.sampler.noise.seed_global(update)
        result, config = StepResult(turn), self.config
        if turn is None or turn.update_student:
            factor = config.student_lr_schedule.factor(update, config.num_steps)
            result.student_lr = config.student_lr * factor
            updated = self._update_student(update, result.student_lr)
            result.student_loss, result.student_grad_norm = updated
            result.passes += STUDENT_TURN_PASSES
        recording = turn is not None and turn.stage == "record"
        share = self.record_sampler.batch_size / self.sampler.batch_size if recording else 1
        for number in range(config.num_fake_updates):
            loss, norm = self._update_fake_score(update, number, recording)
            result.fake_loss, result.fake_grad_norm = loss, norm
            result.passes += FAKE_TURN_PASSES * share
        result.entry = self.disback.end_step(step) if self.disback else None
        return result

    def _update_student(self, update: int, lr: float) -> tuple[Tensor, Tensor]:
        student, total = self.networks.student, torch.zeros((), device=self.sampler.device)
        batch = self.sampler.draw(update, "student", self.config.sigmas)
        for part, sync in self._parts(batch, student):
            with sync:
                x0 = student.network(part.z, part.cond)
                loss = student_loss(x0, self._student_gradient(x0.detach(), part))
                loss = loss / self.config.num_accumulation_steps
                self.accelerator.backward(loss)
            total += loss.detach()
        return total, student.update(lr, self._max_norm)

    @torch.no_grad()
    def _student_gradient(self, x0: Tensor, part: Batch) -> Tensor:
        """w(t) (D_fake - D_real) at x_t, Eq. 6; with a node as the real score, Eq. 8."""
        x_t = diffuse(x0, part.sigma, part.eps)
        fake_x0 = self.networks.fake_score.network(x_t, part.sigma, part.cond)
        with self.real_score() as real_score, self.accelerator.autocast():
            real_x0 = real_score(x_t, part.sigma, part.cond)
        return self.gradient(fake_x0, real_x0, x0, part.sigma)

    def _update_fake_score(
        self, update: int, number: int, recording: bool
    ) -> tuple[Tensor, Tensor]:
        """Eq. 5 on the student's samples; while recording, Eq. 7: the student is held still."""
        fake, total = self.networks.fake_score, torch.zeros((), device=self.sampler.device)
        drawer, stream = (self.record_sampler, "record") if recording else (self.sampler, "fake")
        augment = self.config.augment
        batch = drawer.draw(update, f"{stream}/{number}", self.fake_sigmas, augment)
        for part, sync in self._parts(batch, fake):
            with torch.no_grad():
                x0 = self.networks.student.network(part.z, part.cond)
                told = []  # besides noise level and condition
                if part.moves is not None:
                    x0, labels = augmented(x0, part.moves)
                    told.append(labels)
            with sync:
                x_t = diffuse(x0, part.sigma, part.eps)
                x0_hat = fake.network(x_t, part.sigma, part.cond, *told)
                loss = denoising_score_matching(
                    x0_hat, x0, part.sigma, self.config.fake_weighting, self.sigma_data
                )
                loss = loss / self.config.num_accumulation_steps
                self.accelerator.backward(loss)
            total += loss.detach()
        return total, fake.update(self._fake_lr(update, recording), self._max_norm)

    def real_score(self) -> AbstractContextManager[nn.Module]:
        """The network that answers as the real score now, within the context."""
        return self.disback.real_score() if self.disback else nullcontext(self.networks.teacher)

    def _parts(
        self, batch: Batch, trained: TrainedNetwork
    ) -> Iterator[tuple[Batch, AbstractContextManager[None]]]:
        """The batch in accumulation parts; processes exchange gradients in the last one only."""
        num = self.config.num_accumulation_steps
        for index, part in enumerate(batch.split(num), start=1):
            last = index == num
            yield part, nullcontext() if last else self.accelerator.no_sync(trained.network)

    def _fake_lr(self, update: int, recording: bool) -> float:
        config = self.config
        if recording:
            return config.record_lr or config.fake_lr
        return config.fake_lr * config.fake_lr_schedule.factor(update, config.num_steps)

    def _update_of(self, step: int) -> int:
        """The number of the student's update at `step`, from 0; while recording the step."""
        recorded = self.disback.num_record_steps if self.disback else 0
        return step if step < recorded else step - recorded


def make_record_sampler(sampler: BatchSampler, config: DistillConfig) -> BatchSampler:
    """What recording steps draw with: the same noise, in batches of their own size."""
    return replace(sampler, batch_size=config.record_batch_size or sampler.batch_size)
