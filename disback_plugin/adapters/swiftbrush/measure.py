"""What SwiftBrush's student makes of its prompts, and how far a score network is off on it.

Score networks are asked without guidance, as the LoRA is trained: all losses are of one kind.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from disback_plugin.adapters.overlay.measuring import HostMeasure, drawn
from disback_plugin.measure import Measure

LOW, HIGH = 0.02, 0.981  # of all time steps, as it draws them for the student
CHANNELS, SHRUNK = 4, 8  # of latents, whose sides are so much shorter than the images'


@dataclass(frozen=True)
class Draws:
    """What its script draws from: `predict` is its `predict_original`."""

    predict: Callable[[nn.Module, Any, Tensor, Tensor], Tensor]
    scheduler: Any
    prompts: Any
    dtype: torch.dtype
    resolution: int
    batch_size: int


def measure_of(unet: nn.Module, teacher_lora: nn.Module, draws: Draws) -> Measure:
    """Of `train_swiftbrush.py`."""
    networks = nn.ModuleList([unet, teacher_lora])
    return HostMeasure([partial(_residuals, unet, draws)], networks, draws.batch_size)


def _residuals(
    unet: nn.Module, draws: Draws, network: nn.Module, num: int
) -> tuple[Tensor, Tensor]:
    """An eps-prediction is off by eps - eps_hat = (D - x0) / sigma."""
    device, scheduler, prompts = next(unet.parameters()).device, draws.scheduler, draws.prompts
    chosen = torch.randint(len(prompts), (num,)).tolist()
    embeds = drawn(lambda: torch.stack([prompts[i]["prompt_embeds"] for i in chosen]))
    embeds = embeds.to(device, draws.dtype)
    side = draws.resolution // SHRUNK
    noise = torch.randn(num, CHANNELS, side, side, dtype=draws.dtype, device=device)
    x0 = draws.predict(unet, scheduler, noise, embeds).to(draws.dtype)
    first, above = (int(share * scheduler.config.num_train_timesteps) for share in (LOW, HIGH))
    times, eps = torch.randint(first, above, (num,), device=device), torch.randn_like(x0)
    answer = network(scheduler.add_noise(x0, eps, times), times, embeds).sample
    return (eps - answer).float(), x0.float()
