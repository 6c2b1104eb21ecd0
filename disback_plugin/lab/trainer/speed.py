"""What makes networks faster on a GPU and changes numbers by rounding only."""

import torch
from torch import nn

from disback_plugin.diffusion import Denoiser
from disback_plugin.lab.config.experiment import ExperimentConfig


def speed_up(module: nn.Module, config: ExperimentConfig) -> nn.Module:
    """The module itself, in the memory format and compiled as the settings say.

    Compiled in place: names, state dicts and what is copied into its weights stay as they were; a
    deep copy is not compiled. Of a denoiser only the network within, the rest is bookkeeping.
    """
    if config.channels_last:
        module.to(memory_format=torch.channels_last)
    if config.compile:
        for part in _networks(module):
            # one graph a batch size: few occur, and the training batch's is the one that counts
            part.compile(dynamic=False)
    return module


def _networks(module: nn.Module) -> list[nn.Module]:
    denoisers = [part for part in module.modules() if isinstance(part, Denoiser)]
    inner = [child for part in denoisers for child in part.children()]
    return [part for part in inner if not isinstance(part, Denoiser)] or [module]
