"""What automatic recording sees of a setting before its first step, seed by seed.

    python experiments/cifar16/pull.py CONFIG [key=value ...]

A line a seed: the teacher's loss on the student's samples, the share of its pull that is common to
them, what the two call for, and the samples' mean and spread. The teacher is that of runs/<name>,
or `teacher=run:OUT`.
"""

import sys
from pathlib import Path

import torch

from disback_plugin.config import AutoRecord
from disback_plugin.lab.config.experiment import load_config
from disback_plugin.lab.trainer.experiment import Experiment
from disback_plugin.lab.trainer.residuals import noisy, residual, residual_batch
from disback_plugin.lab.trainer.roles import make_accelerator, make_sampler
from disback_plugin.measure import TeacherPull

NUM_SEEDS = 8


@torch.no_grad()
def main() -> None:
    config = load_config(sys.argv[1], sys.argv[2:])
    experiment = Experiment(config, Path("runs") / config.name)
    problem, teacher = experiment.problem, experiment.teacher
    for seed in range(NUM_SEEDS):
        sampler = make_sampler(config, problem, seed, make_accelerator(config))
        draw = residual_batch(sampler, config.distill)
        x0 = config.student.make(teacher, problem.data_shape, seed)(draw.z, draw.cond)
        answer = teacher(noisy(x0, draw), draw.sigma, draw.cond)
        pull = TeacherPull.of(residual(answer, x0, draw.sigma), x0)
        print(
            f"seed {seed}: loss {pull.loss:.3f}, common {pull.common:.2f}: "
            f"{pull.calls_for(AutoRecord())}; samples {x0.mean():.2f} +- {x0.std():.2f}"
        )


if __name__ == "__main__":
    main()
