"""Score distillation of one arm for all seeds at once: the reference loop on stacked weights."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from disback_plugin.diffusion import WEIGHTINGS, Denoiser, get_student_gradient
from disback_plugin.lab.compare.arms import ArmPlan, Lane
from disback_plugin.lab.compare.stack import (
    Stack,
    Stacked,
    StackedBatch,
    label_tensor,
    make_stacked,
    per_lane,
)
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import LRSchedule
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.trainer.batches import BatchSampler
from disback_plugin.lab.trainer.loop import (
    FAKE_TURN_PASSES,
    STUDENT_TURN_PASSES,
    make_record_sampler,
)
from disback_plugin.lab.trainer.residuals import answer_passes, noisy, residual, residual_batch
from disback_plugin.measure import TeacherPull, loss_of


class BatchedDistillation:
    """One arm at one learning rate, lane k with seed `seeds[k]`: what the trainer does with it.

    Equal to the trainer's run of that seed up to rounding: same draws, same order. `passes` (S,)
    counts network passes per sample as the trainer does, and those that measuring takes.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        problem: Problem,
        teacher: Denoiser,
        drawers: Sequence[BatchSampler],
        plan: ArmPlan,
        student_lr: float | None = None,
    ) -> None:
        self.distill, self.plan = plan.distill(config.distill, student_lr), plan
        self.drawers = drawers
        self._record_drawers = [make_record_sampler(drawer, self.distill) for drawer in drawers]
        self.sigma_data = config.teacher.sigma_data
        num, distill = len(drawers), self.distill
        students = [
            config.student.make(teacher, problem.data_shape, drawer.noise.seed)
            for drawer in drawers
        ]
        self.student, self.ema = Stack(students, trainable=True), Stack(students)
        self.fake_score = Stack([teacher] * num, trainable=True)
        self.real_score = Stack([teacher] * num)
        self._teacher_weights = self.real_score.snapshot()
        self._student_optimizer = make_stacked(self.student, distill.student_optimizer_settings)
        self._fake_optimizer = make_stacked(self.fake_score, distill.fake_optimizer_settings)
        self._gradient = get_student_gradient(config.method)
        self.passes = torch.zeros(num)
        self.lanes = [Lane(plan) for _ in drawers]
        self._nodes: dict[int, Stacked] = {}  # by recording steps
        self._samples: dict[int, Tensor] = {}  # measured on, by lane, until its student is updated
        self._installed = [0] * num  # recording steps of each lane's node; 0 is the teacher
        for index, lane in enumerate(self.lanes):
            lane.start(partial(self._teacher_pull, index))

    def train_step(self, step: int) -> None:
        """Run host step `step`, from 0, in every lane."""
        recording = torch.tensor([lane.recording(step) for lane in self.lanes])
        self._install(step)
        if not bool(recording.all()):
            self._update_student(step, ~recording)
        for number in range(self.distill.num_fake_updates):
            self._update_fake_score(step, number, recording)
        if bool(recording.any()):
            self._end_record_step(step)

    # -- the two updates ------------------------------------------------------------------------
    def _update_student(self, step: int, active: Tensor) -> None:
        updates = self._updates(step)
        each, sigmas = zip(self.drawers, updates, strict=True), self.distill.sigmas
        draw = StackedBatch.stack([drawer.draw(at, "student", sigmas) for drawer, at in each])
        x0 = self.student(draw.z, draw.cond)
        gradient = self._student_gradient(x0.detach(), draw)
        loss = (x0 * gradient).sum() / x0.shape[1]
        lr = self._rates(self.distill.student_lr, self.distill.student_lr_schedule, updates)
        grads = _gradients(loss, self.student)
        self._student_optimizer.step(grads, lr, active, self.distill.clip_grad_norm)
        self._average(active)
        self._samples = {at: x0 for at, x0 in self._samples.items() if not active[at]}
        self.passes += STUDENT_TURN_PASSES * active

    @torch.no_grad()
    def _student_gradient(self, x0: Tensor, draw: StackedBatch) -> Tensor:
        x_t = x0 + _wide(draw.sigma, x0) * draw.eps
        fake = self.fake_score(x_t, draw.sigma, draw.cond)
        # by the same kernels: Adam would make whole steps of rounding where both are the teacher
        real = self.real_score(x_t, draw.sigma, draw.cond)
        flat = [value.flatten(0, 1) for value in (fake, real, x0, draw.sigma)]
        return self._gradient(*flat).reshape(x0.shape)

    def _update_fake_score(self, step: int, number: int, recording: Tensor) -> None:
        distill = self.distill
        sigmas, updates = distill.fake_sigmas or distill.sigmas, self._updates(step)
        drawers = [
            small if on else usual
            for on, small, usual in zip(recording, self._record_drawers, self.drawers, strict=True)
        ]
        streams = [f"record/{number}" if on else f"fake/{number}" for on in recording]
        each = zip(drawers, updates, streams, strict=True)
        draw = StackedBatch.stack([drawer.draw(at, stream, sigmas) for drawer, at, stream in each])
        with torch.no_grad():
            x0 = self.student(draw.z, draw.cond)
        x0_hat = self.fake_score(x0 + _wide(draw.sigma, x0) * draw.eps, draw.sigma, draw.cond)
        weight = WEIGHTINGS[distill.fake_weighting](_wide(draw.sigma, x0), self.sigma_data)
        loss = ((weight * (x0_hat - x0).square()).flatten(2).mean(2) * draw.share).sum()
        lr = self._rates(distill.fake_lr, distill.fake_lr_schedule, updates)
        lr[recording] = distill.record_lr or distill.fake_lr
        everyone = torch.ones_like(recording)
        grads = _gradients(loss, self.fake_score)
        self._fake_optimizer.step(grads, lr, everyone, distill.clip_grad_norm)
        for index, drawer in enumerate(drawers):
            self.passes[index] += FAKE_TURN_PASSES * drawer.batch_size / distill.batch_size

    @torch.no_grad()
    def _average(self, active: Tensor) -> None:
        share = (1 - self.distill.student_ema_decay) * active
        for name, own in self.ema.params.items():
            own.lerp_(self.student.params[name].detach(), per_lane(share, own).expand_as(own))

    # -- recording and walking ------------------------------------------------------------------
    def _end_record_step(self, step: int) -> None:
        kept: dict[int, list[int]] = {}  # lanes by recording steps
        ended = torch.zeros(len(self.lanes), dtype=torch.bool)
        for index, lane in enumerate(self.lanes):
            if not lane.recording(step):
                continue
            if lane.end_record_step(step, partial(self._loss, index, self.fake_score.params)):
                kept.setdefault(lane.kept[-1], []).append(index)
            ended[index] = self.plan.from_teacher and not lane.recording(step + 1)
        for num_done, lanes in kept.items():
            self._keep(num_done, lanes)
        if bool(ended.any()):
            self.fake_score.load(self._teacher_weights, ended)
            self._fake_optimizer.reset(ended)

    def _keep(self, num_done: int, lanes: list[int]) -> None:
        """The fake scores of these lanes as their nodes."""
        if num_done not in self._nodes:
            self._nodes[num_done] = self.fake_score.snapshot()
        for name, node in self._nodes[num_done].items():
            node[lanes] = self.fake_score.params[name].detach()[lanes]

    def _install(self, step: int) -> None:
        for index, lane in enumerate(self.lanes):
            if lane.recording(step):
                continue
            node = lane.begin_walk_step(step, partial(self._node_loss, index))
            recorded_at = lane.kept[node - 1] if node else 0
            if recorded_at != self._installed[index]:
                only = torch.arange(len(self.lanes)) == index
                self.real_score.load(self._weights(index, node), only)
                self._installed[index] = recorded_at

    def _weights(self, index: int, node: int) -> Stacked:
        return self._nodes[self.lanes[index].kept[node - 1]] if node else self._teacher_weights

    def _node_loss(self, index: int, node: int) -> float:
        return self._loss(index, self._weights(index, node))

    def _loss(self, index: int, weights: Stacked) -> float:
        """Of a network on the samples of one lane's student."""
        return loss_of(self._measure(index, weights)[0])

    def _teacher_pull(self, index: int) -> TeacherPull:
        return TeacherPull.of(*self._measure(index, self._teacher_weights))

    @torch.no_grad()
    def _measure(self, index: int, weights: Stacked) -> tuple[Tensor, Tensor]:
        """Residuals and samples of one lane's student, counted in its passes."""
        draw = residual_batch(self.drawers[index], self.distill)
        passes, labels = answer_passes(draw, self.drawers[index]), label_tensor(draw.cond)
        if index not in self._samples:
            call = self.student.call_lane
            self._samples[index] = call(index, self.student.params, draw.z, labels)
            self.passes[index] += passes
        x0 = self._samples[index]
        x_t = noisy(x0, draw)
        x0_hat = self.fake_score.call_lane(index, weights, x_t, draw.sigma, labels)
        self.passes[index] += passes
        return residual(x0_hat, x0, draw.sigma), x0

    def _updates(self, step: int) -> list[int]:
        """The number of the student's update in each lane."""
        return [lane.update_of(step) for lane in self.lanes]

    def _rates(self, peak: float, schedule: LRSchedule, updates: Sequence[int]) -> Tensor:
        factors = [schedule.factor(update, self.distill.num_steps) for update in updates]
        return peak * torch.tensor(factors)


def _gradients(loss: Tensor, stack: Stack) -> Stacked:
    grads = torch.autograd.grad(loss, list(stack.params.values()))
    return dict(zip(stack.params, grads, strict=True))


def _wide(per_sample: Tensor, like: Tensor) -> Tensor:
    """(S, B) for broadcasting against (S, B, *data)."""
    return per_sample.reshape(*per_sample.shape, *[1] * (like.ndim - 2))
