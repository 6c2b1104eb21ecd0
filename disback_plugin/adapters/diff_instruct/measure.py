"""What Diff-Instruct's generator makes, and how far a score network is off on it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.adapters.overlay.measuring import HostMeasure, drawn
from disback_plugin.measure import Measure


@dataclass(frozen=True)
class Draws:
    """What its loop draws from: the loss has the noise levels, the data set the labels."""

    loss: Any
    data: Any
    init_sigma: float
    batch_size: int


def measure_of(net: nn.Module, fake_score: nn.Module, g: nn.Module, draws: Draws) -> Measure:
    """Of its training loop."""
    networks = nn.ModuleList([net, fake_score, g])
    return HostMeasure([partial(_residuals, g, draws)], networks, draws.batch_size)


def _residuals(g: Any, draws: Draws, network: nn.Module, num: int) -> tuple[Tensor, Tensor]:
    """Labels come from the data set, not from its iterator, which stays where it is."""
    device, data = next(g.parameters()).device, draws.data
    chosen = torch.randint(len(data), (num,)).tolist()
    labels = drawn(lambda: torch.stack([torch.as_tensor(data[i][1]) for i in chosen])).to(device)
    not_augmented = torch.zeros(num, 9, device=device)
    size = (num, g.img_channels, g.img_resolution, g.img_resolution)
    z = draws.init_sigma * torch.randn(size, device=device)
    start = torch.full((num, 1, 1, 1), draws.init_sigma, device=device)
    x0 = g(z, start, labels, augment_labels=not_augmented)
    levels = torch.randn(num, 1, 1, 1, device=device)
    sigma = (levels * draws.loss.P_std + draws.loss.P_mean).exp()
    noisy = x0 + sigma * torch.randn_like(x0)
    x0_hat = network(noisy, sigma, labels, augment_labels=not_augmented)
    return (x0_hat - x0) / sigma, x0
