"""The roles of a run at step 0, what they are trained on, and the arm's session."""

import copy
from pathlib import Path

from accelerate import Accelerator

from disback_plugin.config import Arm, DisBackConfig
from disback_plugin.diffusion import Denoiser, without_guidance
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.noise import make_noise
from disback_plugin.lab.problems import Problem
from disback_plugin.lab.trainer.batches import BatchSampler
from disback_plugin.lab.trainer.loop import Networks
from disback_plugin.lab.trainer.network import TrainedNetwork, speed_up
from disback_plugin.lab.trainer.residuals import Residuals
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
    ema, dropout = distill.student_ema_decay, distill.dropout
    student = config.student.make(teacher, problem.data_shape, seed)
    fake_score = without_guidance(copy.deepcopy(teacher)).requires_grad_(True)
    for network in (teacher, fake_score, student):
        speed_up(network, config)
    return Networks(
        teacher=teacher.to(accelerator.device),
        fake_score=TrainedNetwork(
            "fake_score", fake_score, accelerator, distill.fake_optimizer_settings, None, dropout
        ),
        student=TrainedNetwork(
            "student", student, accelerator, distill.student_optimizer_settings, ema, dropout
        ),
    )


def attach(
    config: ExperimentConfig,
    arm: Arm,
    networks: Networks,
    path: Path | None,
    measure: Residuals | None = None,
) -> DisBack | None:
    """The session of an arm; none for `fixed`, the loop without the plugin."""
    if arm == "fixed":
        return None
    roles = {
        "teacher": networks.teacher,
        "fake_score": networks.fake_score.network,
        "student": networks.student.network,
    }
    settings = DisBackConfig(path=path, arm=arm, **dict(config.disback))
    return DisBack.attach(roles=roles, config=settings, measure=measure)


def make_sampler(
    config: ExperimentConfig, problem: Problem, seed: int, accelerator: Accelerator
) -> BatchSampler:
    """The draws of seed `seed` for this process."""
    return BatchSampler(
        noise=make_noise(seed, accelerator, config.draw_on_device),
        batch_size=config.distill.batch_size,
        latent_shape=config.student.latent_shape(problem.data_shape),
        data_shape=problem.data_shape,
        num_classes=problem.num_classes,
        device=accelerator.device,
        condition=problem.condition,
    )
