"""What measures residuals: automatic recording and the schedule `adaptive` decide from them."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.diffusion import diffuse
from disback_plugin.lab.config.training import DistillConfig
from disback_plugin.lab.trainer.batches import Batch, BatchSampler
from disback_plugin.lab.trainer.network import TrainedNetwork

SHARE = 4  # a quarter of a batch: the same draws every time, so that differences are exact


class Residuals:
    """A network's residuals on the student's samples, and these, always of the same draws.

    Given to `DisBack.attach(measure=...)`. All networks answer in the precision of the training,
    without dropout. Deterministic, and blind to the global random state. `passes` counts network
    passes per sample of a batch. The samples are kept for as long as the student is held still.
    """

    def __init__(
        self,
        student: TrainedNetwork,
        sampler: BatchSampler,
        config: DistillConfig,
        accelerator: Accelerator,
    ) -> None:
        self.student, self.batch = student, residual_batch(sampler, config)
        self.accelerator, self.passes = accelerator, 0.0
        self._passes_each = answer_passes(self.batch, sampler)
        self._samples: tuple[int, Tensor] | None = None  # after so many updates

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        batch = self.batch
        if not self.has_samples:
            self.draw_samples()
            self.passes += self._passes_each
        assert self._samples is not None
        _, x0 = self._samples
        with _without_dropout(network), self.accelerator.autocast():
            x0_hat = network(noisy(x0, batch), batch.sigma, batch.cond)
        self.passes += self._passes_each
        return residual(x0_hat, x0, batch.sigma), x0

    @property
    def has_samples(self) -> bool:
        """Whether the samples are those of the student as it is."""
        return self._samples is not None and self._samples[0] == self.student.num_updates

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Of the student as it is. Not counted: a resumed run draws again what it had."""
        with _without_dropout(self.student.network), self.accelerator.autocast():
            samples = self.student.network(self.batch.z, self.batch.cond)
        self._samples = self.student.num_updates, samples


def residual_batch(sampler: BatchSampler, config: DistillConfig) -> Batch:
    """What a run's residuals are measured on, at the student's noise levels."""
    batch = sampler.draw(0, "measure", config.sigmas)
    return batch.split(SHARE)[0] if len(batch.z) >= SHARE else batch


def answer_passes(batch: Batch, sampler: BatchSampler) -> float:
    """Of an answer to the batch, per sample of a batch; the student's samples take as many."""
    return len(batch.z) * sampler.noise.num_ranks / sampler.batch_size


def noisy(x0: Tensor, batch: Batch) -> Tensor:
    """x_t of the student's samples."""
    return diffuse(x0, batch.sigma, batch.eps)


def residual(x0_hat: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """(D - x0) / sigma for sigma (B,), shaped as the samples (B, *data)."""
    return (x0_hat - x0) / sigma.reshape(-1, *[1] * (x0.ndim - 1))


@contextmanager
def _without_dropout(network: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
