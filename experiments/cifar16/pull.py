"""What automatic recording sees of a setting before its first step, and how far that step goes.

    python experiments/cifar16/pull.py CONFIG [key=value ...]

A line a seed: the teacher's loss on the student's samples, the share of its pull that is common to
them, what the two call for; the samples' mean and spread, and how far (rms) a first step of Adam at
the student's rate moves them. Then a line a noise level: the teacher's loss on samples and on data.
The teacher is that of runs/<name>, or `teacher=run:OUT`.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from disback_plugin.config import AutoRecord
from disback_plugin.lab.config.experiment import load_config
from disback_plugin.lab.trainer.batches import Batch
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.residuals import noisy, residual, residual_batch
from disback_plugin.lab.trainer.roles import make_accelerator, make_sampler
from disback_plugin.measure import TeacherPull, loss_of

NUM_SEEDS = 8
LEVELS, NUM_SAMPLES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2), 128


def main() -> None:
    """Print a line a seed."""
    config = load_config(sys.argv[1], sys.argv[2:])
    trained_here = config.teacher.training is not None
    experiment = Experiment(config, Path("runs") / (config.name if trained_here else "none"))
    problem, teacher = experiment.problem, experiment.teacher
    for seed in range(NUM_SEEDS):
        sampler = make_sampler(config, problem, seed, make_accelerator(config))
        draw = residual_batch(sampler, config.distill)
        student = config.student.make(teacher, problem.data_shape, seed)
        x0 = student(draw.z, draw.cond).detach()
        with torch.no_grad():
            answer = teacher(noisy(x0, draw), draw.sigma, draw.cond)
        pull = TeacherPull.of(residual(answer, x0, draw.sigma), x0)
        moved = first_step(student, draw, x0 - answer, config.distill.student_lr)
        print(
            f"seed {seed}: loss {pull.loss:.3f}, common {pull.common:.2f}: "
            f"{pull.calls_for(AutoRecord())}; samples {x0.mean():.2f} +- {x0.std():.2f}, "
            f"moved by {moved:.3f}"
        )
    by_level(config.student.make(teacher, problem.data_shape, seed=0), experiment)


@torch.no_grad()
def by_level(student: nn.Module, experiment: Experiment) -> None:
    """Print the teacher's loss on samples and on images of the same classes, by noise level."""
    problem, draws = experiment.problem, torch.Generator().manual_seed(0)
    images, labels = problem.dataset.batch(NUM_SAMPLES, draws)
    if not problem.num_classes:
        labels = None
    samples = student(torch.randn(images.shape, generator=draws), labels)
    eps = torch.randn(images.shape, generator=draws)
    for level in LEVELS:
        sigma = torch.full((NUM_SAMPLES,), level)
        own, data = (
            loss_of(residual(experiment.teacher(x0 + level * eps, sigma, labels), x0, sigma))
            for x0 in (samples, images)
        )
        print(f"sigma {level:g}: loss {own:.2f}, on data {data:.2f}")


def first_step(student: nn.Module, draw: Batch, gradient: Tensor, lr: float) -> float:
    """Root mean square move of the samples by Adam's first step, which is `lr` a weight."""
    weights = [value for value in student.parameters() if value.requires_grad]
    x0 = student(draw.z, draw.cond)
    grads = torch.autograd.grad((x0 * gradient).sum(), weights)
    with torch.no_grad():
        for weight, grad in zip(weights, grads, strict=True):
            weight.sub_(lr * grad.sign())
        return float((student(draw.z, draw.cond) - x0).square().mean().sqrt())


if __name__ == "__main__":
    main()
