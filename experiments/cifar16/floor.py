"""How near a student can come to one image at all, score distillation aside.

    python experiments/cifar16/floor.py CONFIG [key=value ...]

A line a learning rate: the root mean square of the student's samples before and after 120 steps of
Adam on their mean square, the plainest target there is. What stays is what its network cannot
undo; where that is far above the data's 0.5, no pull of a teacher will do better.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from disback_plugin.lab.config.experiment import load_config
from disback_plugin.lab.trainer.experiment import Experiment

RATES = (1e-6, 1e-5, 1e-4, 5e-4)
NUM_STEPS, BATCH, NUM_JUDGED = 120, 16, 64


def main() -> None:
    """Print a line a rate."""
    config = load_config(sys.argv[1], sys.argv[2:])
    experiment = Experiment(config, Path("runs") / "none")
    shape, num_classes = experiment.problem.data_shape, experiment.problem.num_classes
    for rate in RATES:
        student = config.student.make(experiment.teacher, shape, seed=0)
        size = partial(mean_square, student, shape, num_classes, torch.Generator().manual_seed(0))
        before = float(size(NUM_JUDGED).detach().sqrt())
        optimizer = torch.optim.Adam(student.parameters(), betas=(0.0, 0.99))
        for step in range(NUM_STEPS):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / NUM_STEPS)
            optimizer.zero_grad()
            size(BATCH).backward()
            optimizer.step()
        print(f"rate {rate:g}: {before:.2f} -> {float(size(NUM_JUDGED).detach().sqrt()):.2f}")


def mean_square(
    student: nn.Module, shape: Sequence[int], num_classes: int, draws: torch.Generator, num: int
) -> Tensor:
    """Of the samples of `num` fresh latents."""
    z = torch.randn(num, *shape, generator=draws)
    labels = torch.randint(num_classes, (num,), generator=draws)
    return student(z, labels).square().mean()


if __name__ == "__main__":
    main()
