"""One arm with one seed as a job for the driver: builds the roles, attaches DisBack, evaluates."""

import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.config import Arm, DisBackConfig
from disback_plugin.diffusion import Denoiser, without_guidance
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.noise import make_noise
from disback_plugin.lab.problems.evaluator import Evaluator
from disback_plugin.lab.problems.problems import Problem
from disback_plugin.lab.trainer.batches import Drawer
from disback_plugin.lab.trainer.build import latent_shape, make_student
from disback_plugin.lab.trainer.checkpoint import Checkpoint
from disback_plugin.lab.trainer.diagnostics import ScoreProbe, has_probe
from disback_plugin.lab.trainer.driver import Line
from disback_plugin.lab.trainer.evaluation import (
    choose_metrics,
    draw_samples,
    evaluation_noise,
    save_samples,
)
from disback_plugin.lab.trainer.loop import Distillation, Networks, StepResult
from disback_plugin.lab.trainer.network import Tensors, Trainee
from disback_plugin.lab.trainer.residuals import Measure
from disback_plugin.lab.trainer.speed import speed_up
from disback_plugin.path import NodeEntry
from disback_plugin.session import DisBack


def make_networks(
    config: ExperimentConfig,
    teacher: Denoiser,
    problem: Problem,
    seed: int,
    accelerator: Accelerator,
) -> Networks:
    """The roles at step 0: the fake score starts as the teacher, the student from `seed`.

    Guidance is the teacher's alone (Eq. 8 with nodes too): what is trained answers to the prompt.
    """
    distill = config.distill
    student = make_student(config.student, teacher, problem.data_shape, seed)
    fake_score = without_guidance(copy.deepcopy(teacher)).requires_grad_(True)
    for network in (teacher, fake_score, student):
        speed_up(network, config)
    return Networks(
        teacher=teacher.to(accelerator.device),
        fake_score=Trainee(
            "fake_score",
            fake_score,
            accelerator,
            distill.fake_optimizer_settings,
            dropout=distill.dropout,
        ),
        student=Trainee(
            "student",
            student,
            accelerator,
            distill.student_optimizer_settings,
            distill.student_ema_decay,
            distill.dropout,
        ),
    )


def attach(
    config: ExperimentConfig,
    arm: Arm,
    networks: Networks,
    path: Path | None,
    measure: Measure | None = None,
) -> DisBack | None:
    """The session of an arm; none for `fixed`, the loop without the plugin."""
    if arm == "fixed":
        return None
    roles = {
        "teacher": networks.teacher,
        "fake_score": networks.fake_score.network,
        "student": networks.student.network,
    }
    section = config.disback
    settings = DisBackConfig(
        path=path,
        arm=arm,
        record=section.record,
        schedule=section.schedule,
        codec=section.codec,
        rounding=section.rounding,
    )
    return DisBack.attach(roles=roles, config=settings, measure=measure)


def make_drawer(
    config: ExperimentConfig, problem: Problem, seed: int, accelerator: Accelerator
) -> Drawer:
    """The draws of seed `seed` for this process."""
    return Drawer(
        noise=make_noise(seed, accelerator, config.draw_on_device),
        batch_size=config.distill.batch_size,
        latent_shape=latent_shape(config.student, problem.data_shape),
        data_shape=problem.data_shape,
        num_classes=problem.num_classes,
        device=accelerator.device,
        condition=problem.condition,
    )


class DistillJob:
    """A distillation run, as a job for the driver."""

    def __init__(
        self,
        config: ExperimentConfig,
        problem: Problem,
        seed: int,
        folder: Path,
        accelerator: Accelerator,
        loop: Distillation,
        evaluator: Evaluator | None,
        measure: Measure | None = None,
    ) -> None:
        self.num_steps: int = config.distill.num_steps
        self.passes: float = 0
        self.config, self.problem, self.folder = config, problem, folder
        self.accelerator, self.loop, self.evaluator = accelerator, loop, evaluator
        self.measure, self._measured = measure, 0.0
        num, shape = config.evaluation.num_samples, loop.drawer.latent_shape
        self._z = evaluation_noise(seed, num, shape)
        self._last: StepResult | None = None
        self._probe = (
            ScoreProbe(config, problem, loop.drawer, accelerator) if has_probe(problem) else None
        )

    def train_step(self, step: int) -> list[Line]:
        result = self._last = self.loop.train_step(step)
        self.passes += result.passes
        if self.measure is not None:
            self.passes += self.measure.passes - self._measured
            self._measured = self.measure.passes
        lines: list[Line] = []
        if result.turn is not None and result.turn.switch is not None:
            lines.append({"kind": "switch", **asdict(result.turn.switch)})
        if result.entry is not None:
            lines.append({"kind": "node", "step": step + 1, **_node_line(result.entry)})
        return lines

    @property
    def _node(self) -> int:
        """The node that answered at the last step; 0 is the teacher."""
        assert self._last is not None
        return 0 if self._last.turn is None else self._last.turn.node

    def diagnose(self, step: int) -> list[Line]:
        """Of the network that answered at the last step; with the floor at first."""
        if self._probe is None:
            return []
        fake_score, student = self.loop.networks.fake_score.raw, self.loop.networks.student.raw
        with self.loop.real_score() as network:
            line = self._probe(network, fake_score, student, self._teacher_beside(network))
            if step == 1 and self._node == 0:
                line["disback/mismatch_floor"] = self._probe.floor(network)
        return [{"kind": "mismatch", **line}]

    def _teacher_beside(self, real_score: nn.Module) -> nn.Module | None:
        """While a node is installed in the teacher's place: a copy of it that is the teacher."""
        if self._node == 0:
            return None
        assert self.loop.disback is not None
        teacher = copy.deepcopy(real_score)
        teacher.load_state_dict(self.loop.disback.installation.reference.tensors)
        return teacher

    def status(self) -> Line:
        last = self._last
        assert last is not None
        return {
            "stage": "teacher" if last.turn is None else last.turn.stage,
            "node": self._node,
            "fake_loss": self._mean(last.fake_loss),
            "student_loss": self._mean(last.student_loss),
            "student_lr": last.student_lr,
            "fake_grad_norm": self._mean(last.fake_grad_norm),
            "grad_norm": self._mean(last.student_grad_norm),
        }

    def evaluate(self, step: int) -> dict[str, float]:
        assert self.evaluator is not None
        ema = self.loop.networks.student.ema
        assert ema is not None
        samples = draw_samples(ema, self._z, self.problem, self.accelerator.device)
        chosen = self.config.evaluation
        file = self.folder / "samples" / f"step_{step:06d}.safetensors"
        save_samples(file, samples, chosen.num_saved)
        return choose_metrics(self.evaluator(samples), chosen.metrics)

    def state(self) -> tuple[dict[str, Any], Tensors]:
        disback = self.loop.disback
        plain: dict[str, Any] = {
            "disback": disback and disback.state_dict(),
            "has_samples": self.measure is not None and self.measure.has_samples,
        }
        groups: Tensors = {}
        for trainee in (self.loop.networks.student, self.loop.networks.fake_score):
            more, tensors = trainee.state()
            plain.update(more)
            groups.update(tensors)
        return plain, groups

    def restore(self, checkpoint: Checkpoint) -> None:
        self.loop.networks.student.restore(checkpoint)
        self.loop.networks.fake_score.restore(checkpoint)
        disback = self.loop.disback
        if self.measure is not None and checkpoint.state.get("has_samples"):
            self.measure.draw_samples()
        if disback is not None:
            disback.load_state_dict(checkpoint.state["disback"])
            # The node of the step before is installed again here: that is no switch of this run.
            disback.begin_step(checkpoint.step - 1)

    def _mean(self, value: Tensor | None) -> float | None:
        """Of the global batch: the mean over processes. None while the student is held still."""
        return None if value is None else float(self.accelerator.reduce(value, reduction="mean"))


def student_tensors(networks: Networks) -> dict[str, torch.Tensor]:
    """What `student.safetensors` holds: the averaged weights as `ema.*`, the last as `raw.*`."""
    student = networks.student
    assert student.ema is not None
    ema = {f"ema.{name}": value for name, value in student.ema.module.state_dict().items()}
    return ema | {f"raw.{name}": value for name, value in student.raw.state_dict().items()}


def _node_line(entry: NodeEntry) -> Line:
    return {
        "index": entry.index,
        "distance": entry.distance,
        "bf16_distance": entry.bf16_distance,
        "bf16_survives": entry.bf16_survives,
        "bytes": entry.bytes,
    }
