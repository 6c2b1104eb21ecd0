"""Score distillation of one arm for all seeds at once: the reference loop on stacked weights."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from disback_plugin.diffusion import WEIGHTINGS, Denoiser, SigmaSampler, get_student_gradient
from disback_plugin.lab.compare.arms import ArmPlan
from disback_plugin.lab.compare.lane import Course
from disback_plugin.lab.compare.lane_draws import LaneDraws, label_tensor
from disback_plugin.lab.compare.optimizer import make_stacked
from disback_plugin.lab.compare.stack import Stack, Stacked
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.problems.problems import Problem
from disback_plugin.lab.trainer.batches import Drawer
from disback_plugin.lab.trainer.build import make_student
from disback_plugin.lab.trainer.loop import (
    FAKE_TURN_PASSES,
    STUDENT_TURN_PASSES,
    make_record_drawer,
)
from disback_plugin.lab.trainer.residuals import answer_passes, measure_draw, noisy, residual
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
        drawers: Sequence[Drawer],
        plan: ArmPlan,
        student_lr: float | None = None,
    ) -> None:
        self.distill, self.plan = plan.distill(config.distill, student_lr), plan
        self.drawers = drawers
        self._record_drawers = [make_record_drawer(drawer, self.distill) for drawer in drawers]
        self.sigma_data = config.teacher.sigma_data
        num, distill = len(drawers), self.distill
        students = [
            make_student(config.student, teacher, problem.data_shape, drawer.noise.seed)
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
        self.courses = [Course(plan) for _ in drawers]
        self._nodes: dict[int, Stacked] = {}  # by recording steps
        self._samples: dict[int, Tensor] = {}  # measured on, by lane, until its student is updated
        self._installed = [0] * num  # recording steps of each lane's node; 0 is the teacher
        for lane, course in enumerate(self.courses):
            course.start(partial(self._teacher_pull, lane))

    def train_step(self, step: int) -> None:
        """Run host step `step`, from 0, in every lane."""
        recording = torch.tensor([course.recording(step) for course in self.courses])
        self._install(step)
        if not bool(recording.all()):
            self._update_student(step, ~recording)
        for number in range(self.distill.num_fake_updates):
            self._update_fake_score(step, number, recording)
        if bool(recording.any()):
            self._end_record_step(step)

    @property
    def nodes(self) -> list[int]:
        """The node that answers in each lane; 0 is the teacher."""
        return [course.node for course in self.courses]

    # -- the two updates ------------------------------------------------------------------------
    def _update_student(self, step: int, active: Tensor) -> None:
        updates = self._updates(step)
        draw = self._draw(self.drawers, updates, ["student"] * len(updates), self.distill.sigmas)
        x0 = self.student(draw.z, draw.cond)
        gradient = self._student_gradient(x0.detach(), draw)
        loss = (x0 * gradient).sum() / x0.shape[1]
        schedule, num_steps = self.distill.student_lr_schedule, self.distill.num_steps
        factors = [schedule.factor(update, num_steps) for update in updates]
        lr = self.distill.student_lr * torch.tensor(factors)
        grads = _gradients(loss, self.student)
        self._student_optimizer.step(grads, lr, active, self.distill.clip_grad_norm)
        self._average(active)
        self._samples = {lane: x0 for lane, x0 in self._samples.items() if not active[lane]}
        self.passes += STUDENT_TURN_PASSES * active

    @torch.no_grad()
    def _student_gradient(self, x0: Tensor, draw: LaneDraws) -> Tensor:
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
        draw = self._draw(drawers, updates, streams, sigmas)
        with torch.no_grad():
            x0 = self.student(draw.z, draw.cond)
        x0_hat = self.fake_score(x0 + _wide(draw.sigma, x0) * draw.eps, draw.sigma, draw.cond)
        weight = WEIGHTINGS[distill.fake_weighting](_wide(draw.sigma, x0), self.sigma_data)
        loss = ((weight * (x0_hat - x0).square()).flatten(2).mean(2) * draw.share).sum()
        schedule = distill.fake_lr_schedule
        factors = [schedule.factor(update, distill.num_steps) for update in updates]
        lr = distill.fake_lr * torch.tensor(factors)
        lr[recording] = distill.record_lr or distill.fake_lr
        everyone = torch.ones_like(recording)
        grads = _gradients(loss, self.fake_score)
        self._fake_optimizer.step(grads, lr, everyone, distill.clip_grad_norm)
        for lane, drawer in enumerate(drawers):
            self.passes[lane] += FAKE_TURN_PASSES * drawer.batch_size / distill.batch_size

    @torch.no_grad()
    def _average(self, active: Tensor) -> None:
        share = (1 - self.distill.student_ema_decay) * active
        for name, own in self.ema.params.items():
            own.lerp_(self.student.params[name].detach(), _lanes(share, own).expand_as(own))

    # -- recording and walking ------------------------------------------------------------------
    def _restart_fake_score(self, lanes: Tensor) -> None:
        self.fake_score.load(self._teacher_weights, lanes)
        self._fake_optimizer.reset(lanes)

    def _end_record_step(self, step: int) -> None:
        kept: dict[int, list[int]] = {}  # lanes by recording steps
        ended = torch.zeros(len(self.courses), dtype=torch.bool)
        for lane, course in enumerate(self.courses):
            if not course.recording(step):
                continue

            def measure(lane: int = lane) -> float:
                return self._loss(lane, self.fake_score.params)

            if course.end_record_step(step, measure):
                kept.setdefault(course.kept[-1], []).append(lane)
            ended[lane] = self.plan.from_teacher and not course.recording(step + 1)
        for num_done, lanes in kept.items():
            self._keep(num_done, lanes)
        if bool(ended.any()):
            self._restart_fake_score(ended)

    def _keep(self, num_done: int, lanes: list[int]) -> None:
        """The fake scores of these lanes as their nodes."""
        if num_done not in self._nodes:
            self._nodes[num_done] = self.fake_score.snapshot()
        for name, node in self._nodes[num_done].items():
            node[lanes] = self.fake_score.params[name].detach()[lanes]

    def _install(self, step: int) -> None:
        for lane, course in enumerate(self.courses):
            if course.recording(step):
                continue

            def measure(node: int, lane: int = lane, course: Course = course) -> float:
                return self._loss(lane, self._weights(course, node))

            node = course.begin_walk_step(step, measure)
            recorded_at = course.kept[node - 1] if node else 0
            if recorded_at != self._installed[lane]:
                only = torch.arange(len(self.courses)) == lane
                self.real_score.load(self._weights(course, node), only)
                self._installed[lane] = recorded_at

    def _weights(self, course: Course, node: int) -> Stacked:
        return self._nodes[course.kept[node - 1]] if node else self._teacher_weights

    def _loss(self, lane: int, weights: Stacked) -> float:
        """Of a network on the samples of one lane's student."""
        return loss_of(self._measure(lane, weights)[0])

    def _teacher_pull(self, lane: int) -> TeacherPull:
        return TeacherPull.of(*self._measure(lane, self._teacher_weights))

    @torch.no_grad()
    def _measure(self, lane: int, weights: Stacked) -> tuple[Tensor, Tensor]:
        """Residuals and samples of one lane's student, counted in its passes."""
        draw = measure_draw(self.drawers[lane], self.distill)
        passes, labels = answer_passes(draw, self.drawers[lane]), label_tensor(draw.cond)
        if lane not in self._samples:
            call = self.student.call_lane
            self._samples[lane] = call(lane, self.student.params, draw.z, labels)
            self.passes[lane] += passes
        x0 = self._samples[lane]
        x_t = noisy(x0, draw)
        x0_hat = self.fake_score.call_lane(lane, weights, x_t, draw.sigma, labels)
        self.passes[lane] += passes
        return residual(x0_hat, x0, draw.sigma), x0

    def _updates(self, step: int) -> list[int]:
        """The number of the student's update in each lane."""
        return [course.update_of(step) for course in self.courses]

    @staticmethod
    def _draw(
        drawers: Sequence[Drawer],
        updates: Sequence[int],
        streams: Sequence[str],
        sigmas: SigmaSampler,
    ) -> LaneDraws:
        lanes = zip(drawers, updates, streams, strict=True)
        return LaneDraws.stack([drawer.draw(at, stream, sigmas) for drawer, at, stream in lanes])


def _gradients(loss: Tensor, stack: Stack) -> Stacked:
    grads = torch.autograd.grad(loss, list(stack.params.values()))
    return dict(zip(stack.params, grads, strict=True))


def _wide(per_sample: Tensor, like: Tensor) -> Tensor:
    """(S, B) for broadcasting against (S, B, *data)."""
    return per_sample.reshape(*per_sample.shape, *[1] * (like.ndim - 2))


def _lanes(per_lane: Tensor, like: Tensor) -> Tensor:
    return per_lane.reshape(-1, *[1] * (like.ndim - 1))
