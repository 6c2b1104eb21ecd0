"""A generator that a GAN's training leaves, as a student to refine (Diff-Instruct's second use).

    python experiments/cifar16/gan.py CONFIG STEPS FILE.safetensors [key=value ...]

The config's student, best of random weights, against a small convolutional discriminator with a
projection of the class: the non-saturating loss with a gradient penalty on data, Adam. FILE holds
the network's weights, to be taken as `student.checkpoint=weights:FILE` with `student.options={base:
SPEC}`, SPEC being the checkpoint that the config's student began as.
"""

import sys
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.files import write_tensors
from disback_plugin.lab.config.experiment import load_config
from disback_plugin.lab.trainer.experiment import Experiment

BATCH, RATE, PENALTY, CHANNELS = 32, 5e-4, 1.0, 32


class Discriminator(nn.Module):
    """Images (n, 3, 16, 16) and labels (n,) -> logits (n,)."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        widths = [3, CHANNELS, 2 * CHANNELS, 4 * CHANNELS]
        layers: list[nn.Module] = []
        for width, wider in pairwise(widths):
            layers += [nn.Conv2d(width, wider, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(16 * CHANNELS, 1)
        self.classes = nn.Embedding(num_classes, 16 * CHANNELS)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        features = self.body(images)
        return (self.head(features) + (features * self.classes(labels)).sum(1, True)).squeeze(1)


def main() -> None:
    """Train the GAN and write the generator."""
    config = load_config(sys.argv[1], sys.argv[4:])
    torch.manual_seed(0)
    experiment, draws = Experiment(config, Path("runs") / "none"), torch.Generator().manual_seed(0)
    problem = experiment.problem
    student = config.student.make(experiment.teacher, problem.data_shape, seed=0)
    judge = Discriminator(problem.num_classes)
    makers = torch.optim.Adam(student.parameters(), RATE, (0.0, 0.99))
    judges = torch.optim.Adam(judge.parameters(), RATE, (0.0, 0.99))
    for step in range(int(sys.argv[2])):
        real, labels = problem.dataset.batch(BATCH, draws)
        fake = student(torch.randn(real.shape, generator=draws), labels)
        real.requires_grad_()
        said = judge(real, labels)
        (slope,) = torch.autograd.grad(said.sum(), real, create_graph=True)
        penalty = PENALTY / 2 * slope.square().flatten(1).sum(1).mean()
        loss = F.softplus(-said).mean() + F.softplus(judge(fake.detach(), labels)).mean() + penalty
        judges.zero_grad()
        loss.backward()
        judges.step()
        deceit = F.softplus(-judge(fake, labels)).mean()
        makers.zero_grad()
        deceit.backward()
        makers.step()
        if step % 100 == 0:
            print(f"step {step}: judge {loss.item():.2f}, maker {deceit.item():.2f}", flush=True)
    weights = {name: value.detach() for name, value in student.denoiser.state_dict().items()}
    write_tensors(Path(sys.argv[3]), weights)


if __name__ == "__main__":
    main()
