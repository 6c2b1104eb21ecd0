"""What a run draws: the batches of its training steps, and the samples of its evaluations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.diffusion import Condition, SigmaSampler
from disback_plugin.files import write_tensors
from disback_plugin.lab.noise import Noise, generator
from disback_plugin.lab.problems import Conditioner, Problem, as_they_are
from disback_plugin.lab.trainer.augment import draw_moves

Sample = Callable[[Tensor, Condition | None], Tensor]


@dataclass(frozen=True)
class Batch:
    """z (B, *latent), eps (B, *data), sigma (B,), cond: labels (B,) int64, B prompts, or None.

    moves (B, 8), on the CPU: how the samples are augmented, or None.
    """

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Condition | None
    moves: Tensor | None = None

    def split(self, num: int) -> list["Batch"]:
        """`num` equal parts; fewer, the last one smaller, where the batch does not divide."""
        z, eps, sigma = self.z.chunk(num), self.eps.chunk(num), self.sigma.chunk(num)
        none = (None,) * len(z)
        conds = none if self.cond is None else self.cond.chunk(num)
        moves = none if self.moves is None else self.moves.chunk(num)
        return [Batch(*part) for part in zip(z, eps, sigma, conds, moves, strict=True)]


@dataclass(frozen=True)
class BatchSampler:
    """Draws this rank's rows of the global batch of `batch_size`."""

    noise: Noise
    batch_size: int
    latent_shape: tuple[int, ...]
    data_shape: tuple[int, ...]
    num_classes: int
    device: torch.device
    condition: Conditioner = as_they_are

    def draw(
        self, step: int, stream: str, sigmas: SigmaSampler, augment: float | None = None
    ) -> Batch:
        """The draw of `stream` at `step`: independent of every other stream and step."""
        noise, size = self.noise, self.batch_size
        labels = noise.labels(step, f"{stream}/label", size, self.num_classes)
        levels = sigmas.sample(size, noise.generator(step, f"{stream}/sigma"))
        moves = None
        if augment is not None:
            rows = noise.generator(step, f"{stream}/augment")
            moves = noise.share(draw_moves(size, augment, rows))
        return Batch(
            z=noise.normal(step, f"{stream}/z", (size, *self.latent_shape)).to(self.device),
            eps=noise.normal(step, f"{stream}/eps", (size, *self.data_shape)).to(self.device),
            sigma=noise.share(levels).to(self.device),
            cond=self.condition(labels, self.device),
            moves=moves,
        )


def evaluation_noise(seed: int, num: int, shape: Sequence[int]) -> Tensor:
    """The latents (num, *shape) of a seed, the same for every arm and step."""
    return torch.randn((num, *shape), generator=generator(seed, 0, "evaluation/z"))


def evaluation_labels(num: int, num_classes: int) -> Tensor | None:
    """Balanced labels (num,), int64, of classes or prompts; None for an unconditional problem."""
    return torch.arange(num) % num_classes if num_classes else None


@torch.no_grad()
def draw_samples(
    sample: Sample, z: Tensor, problem: Problem, device: torch.device, batch_size: int
) -> Tensor:
    """`sample(z, cond)` in batches on `device`, for balanced labels; (num, *data) on the CPU."""
    labels = evaluation_labels(len(z), problem.num_classes)
    latents = z.split(batch_size)
    chunks = [None] * len(latents) if labels is None else labels.split(batch_size)
    parts = [
        sample(part.to(device), problem.condition(chunk, device)).float().cpu()
        for part, chunk in zip(latents, chunks, strict=True)
    ]
    return torch.cat(parts)


def choose_metrics(values: dict[str, float], names: Sequence[str] | None) -> dict[str, float]:
    """The metrics asked for; all of them where none are named."""
    return values if names is None else {name: values[name] for name in names}


def save_samples(file: Path, samples: Tensor, num: int) -> None:
    """Keep the first `num` samples, for the report's pictures."""
    if num:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, {"samples": samples[:num]})
