"""The measure that automatic recording and the schedule `adaptive` decide from."""

import torch
from torch import Tensor, nn

from disback_plugin.diffusion import diffuse
from disback_plugin.trainer.draws import Draw, Drawer
from disback_plugin.trainer.training_config import DistillConfig

SHARE = 4  # a quarter of a batch: the same draws every time, so that differences are exact
MEASURE_PASSES = 2 / SHARE  # the student's samples and the network's answer


class Measure:
    """A network's residuals on the student's samples (see `adaptive.py`), always of the same draws.

    `num_calls` since the last `take_passes`; deterministic, and blind to the global random state.
    """

    def __init__(self, student: nn.Module, drawer: Drawer, config: DistillConfig) -> None:
        self.student, self.draw = student, measure_draw(drawer, config)
        self.num_calls = 0

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> Tensor:
        self.num_calls += 1
        x0, draw = self.student(self.draw.z, self.draw.cond), self.draw
        return residual(network(noisy(x0, draw), draw.sigma, draw.cond), x0, draw)

    def take_passes(self) -> float:
        """Network passes since the last call."""
        passes, self.num_calls = MEASURE_PASSES * self.num_calls, 0
        return passes


def measure_draw(drawer: Drawer, config: DistillConfig) -> Draw:
    """The draw of a run's measurements, at the student's noise levels."""
    draw = drawer.draw(0, "measure", config.sigmas)
    return draw.split(SHARE)[0] if len(draw.z) >= SHARE else draw


def noisy(x0: Tensor, draw: Draw) -> Tensor:
    """x_t of the student's samples."""
    return diffuse(x0, draw.sigma, draw.eps)


def residual(x0_hat: Tensor, x0: Tensor, draw: Draw) -> Tensor:
    """(D - x0) / sigma, shaped as the samples (B, *data)."""
    return (x0_hat - x0) / draw.sigma.reshape(-1, *[1] * (x0.ndim - 1))
