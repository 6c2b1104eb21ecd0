"""The measure that automatic recording and the schedule `adaptive` decide from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.diffusion import diffuse
from disback_plugin.lab.config.training import DistillConfig
from disback_plugin.lab.trainer.batches import Draw, Drawer
from disback_plugin.lab.trainer.network import Trainee

SHARE = 4  # a quarter of a batch: the same draws every time, so that differences are exact


class Measure:
    """A network's residuals on the student's samples, and these, always of the same draws.

    See `disback_plugin.measure`. All networks answer in the precision of the training, without
    dropout. Deterministic, and blind to the global random state. `passes` counts network passes per
    sample of a batch. The samples are kept for as long as the student is held still.
    """

    def __init__(
        self, student: Trainee, drawer: Drawer, config: DistillConfig, accelerator: Accelerator
    ) -> None:
        self.student, self.draw = student, measure_draw(drawer, config)
        self.accelerator, self.passes = accelerator, 0.0
        self._passes_each = answer_passes(self.draw, drawer)
        self._samples: tuple[int, Tensor] | None = None  # after so many updates

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> tuple[Tensor, Tensor]:
        draw = self.draw
        if not self.has_samples:
            self.draw_samples()
            self.passes += self._passes_each
        assert self._samples is not None
        _, x0 = self._samples
        with _without_dropout(network), self.accelerator.autocast():
            x0_hat = network(noisy(x0, draw), draw.sigma, draw.cond)
        self.passes += self._passes_each
        return residual(x0_hat, x0, draw.sigma), x0

    @property
    def has_samples(self) -> bool:
        """Whether the samples are those of the student as it is."""
        return self._samples is not None and self._samples[0] == self.student.num_updates

    @torch.no_grad()
    def draw_samples(self) -> None:
        """Of the student as it is. Not counted: a resumed run draws again what it had."""
        with _without_dropout(self.student.network), self.accelerator.autocast():
            samples = self.student.network(self.draw.z, self.draw.cond)
        self._samples = self.student.num_updates, samples


def measure_draw(drawer: Drawer, config: DistillConfig) -> Draw:
    """The draw of a run's measurements, at the student's noise levels."""
    draw = drawer.draw(0, "measure", config.sigmas)
    return draw.split(SHARE)[0] if len(draw.z) >= SHARE else draw


def answer_passes(draw: Draw, drawer: Drawer) -> float:
    """Of an answer to the draw, per sample of a batch; the student's samples take as many."""
    return len(draw.z) * drawer.noise.num_ranks / drawer.batch_size


def noisy(x0: Tensor, draw: Draw) -> Tensor:
    """x_t of the student's samples."""
    return diffuse(x0, draw.sigma, draw.eps)


def residual(x0_hat: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """(D - x0) / sigma for sigma (B,), shaped as the samples (B, *data)."""
    return (x0_hat - x0) / sigma.reshape(-1, *[1] * (x0.ndim - 1))


@contextmanager
def _without_dropout(*networks: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for network in networks for part in network.modules()]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for part, training in modes:
            part.training = training
