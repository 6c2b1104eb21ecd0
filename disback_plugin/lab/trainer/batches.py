"""What a training step draws: latents, labels, noise levels and noise of the global batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.diffusion import Condition, SigmaSampler
from disback_plugin.lab.noise import Noise
from disback_plugin.lab.problems import Conditioner, as_they_are


@dataclass(frozen=True)
class Batch:
    """z (B, *latent), eps (B, *data), sigma (B,), cond: labels (B,) int64, B prompts, or None."""

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Condition | None

    def split(self, num: int) -> list["Batch"]:
        """`num` equal parts; fewer, the last one smaller, where the batch does not divide."""
        z, eps, sigma = self.z.chunk(num), self.eps.chunk(num), self.sigma.chunk(num)
        conds = (None,) * len(z) if self.cond is None else self.cond.chunk(num)
        return [Batch(*part) for part in zip(z, eps, sigma, conds, strict=True)]


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

    def draw(self, step: int, stream: str, sigmas: SigmaSampler) -> Batch:
        """The draw of `stream` at `step`: independent of every other stream and step."""
        noise, size = self.noise, self.batch_size
        labels = noise.labels(step, f"{stream}/label", size, self.num_classes)
        levels = sigmas.sample(size, noise.generator(step, f"{stream}/sigma"))
        return Batch(
            z=noise.normal(step, f"{stream}/z", (size, *self.latent_shape)).to(self.device),
            eps=noise.normal(step, f"{stream}/eps", (size, *self.data_shape)).to(self.device),
            sigma=noise.share(levels).to(self.device),
            cond=self.condition(labels, self.device),
        )
