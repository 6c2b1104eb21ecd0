"""Exponential moving average of a network's weights, on torch's own AveragedModel."""

import copy

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def make_ema(module: nn.Module, decay: float) -> AveragedModel:
    """An average that starts at `module`'s weights: `ema = decay * ema + (1 - decay) * weights`.

    Buffers are copied, not averaged. Call `.update_parameters(module)` after an optimizer step.
    """
    ema = AveragedModel(copy.deepcopy(module), multi_avg_fn=get_ema_multi_avg_fn(decay))
    # Torch's first update copies the weights; the start is already copied, so average at once.
    ema.n_averaged.fill_(1)
    return ema.requires_grad_(False).eval()
