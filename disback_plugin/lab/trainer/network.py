"""A network in training: wrapper, optimizer, average and their state; what makes it faster."""

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from disback_plugin.diffusion import Denoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import OptimizerSettings
from disback_plugin.lab.trainer.checkpoint import Checkpoint
from disback_plugin.tensors import load_weights, pack_optimizer, unpack_optimizer

Tensors = dict[str, dict[str, Tensor]]


class TrainedNetwork:
    """`network` is what to call and to differentiate; `raw` is the module inside its wrappers.

    num_updates: since this object was made, of an averaged one since the first, over resumes.
    ema_decay: of the average, a number or a function of num_updates; None: there is no average.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        accelerator: Accelerator,
        optimizer: OptimizerSettings,
        ema_decay: float | Callable[[int], float] | None = None,
        dropout: bool = True,
    ) -> None:
        self.name, self.raw, self.accelerator = name, module.train(dropout), accelerator
        self._decay = ema_decay if callable(ema_decay) else None
        self.ema = None
        if ema_decay is not None:
            self.ema = make_ema(module, ema_decay(0) if callable(ema_decay) else ema_decay)
        made = optimizer.make(module.parameters())
        self.network, self.optimizer = accelerator.prepare(module, made)
        self.num_updates = 0
        if self.ema is not None:
            self.ema.to(accelerator.device)

    def update(self, lr: float, max_norm: float | None) -> Tensor:
        """Clip, step, drop the gradients, average; returns the norm before clipping, a scalar."""
        limit = math.inf if max_norm is None else max_norm
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), limit)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            if self._decay is not None:
                self.ema.multi_avg_fn = get_ema_multi_avg_fn(self._decay(self.num_updates))
            self.ema.update_parameters(self.raw)
        self.num_updates += 1
        assert norm is not None
        return norm.detach()

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Plain data and groups of tensors, all named after this network."""
        tensors, plain = pack_optimizer(self.optimizer.optimizer)
        groups = {self.name: self.raw.state_dict(), f"{self.name}_optimizer": tensors}
        if self.ema is not None:
            groups[f"{self.name}_ema"] = self.ema.state_dict()
        return {f"{self.name}_optimizer": plain}, groups

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load what `state` gave, strictly; RunError where it does not fit."""
        source = f"checkpoint {checkpoint.step}"
        load_weights(self.raw, checkpoint.tensors[self.name], f"{self.name} in {source}")
        if self.ema is not None:
            tensors = checkpoint.tensors[f"{self.name}_ema"]
            load_weights(self.ema, tensors, f"{self.name}_ema in {source}")
            self.num_updates = int(self.ema.n_averaged) - 1  # which starts at 1
        key = f"{self.name}_optimizer"
        unpack_optimizer(self.optimizer.optimizer, checkpoint.tensors[key], checkpoint.state[key])


def make_ema(module: nn.Module, decay: float) -> AveragedModel:
    """An average that starts at `module`'s weights: `ema = decay * ema + (1 - decay) * weights`.

    Buffers are copied, not averaged. Call `.update_parameters(module)` after an optimizer step.
    """
    ema = AveragedModel(copy.deepcopy(module), multi_avg_fn=get_ema_multi_avg_fn(decay))
    # Torch's first update copies the weights; the start is already copied, so average at once.
    ema.n_averaged.fill_(1)
    return ema.requires_grad_(False).eval()


def save_memory(module: nn.Module) -> nn.Module:
    """The module itself, its U-Nets set to checkpoint gradients; ConfigError where they cannot."""
    networks = [part for part in module.modules() if hasattr(part, "enable_gradient_checkpointing")]
    if not networks:
        raise ConfigError(
            "gradient_checkpointing is for U-Nets of EDM, consistency models and diffusers, and "
            "for network kind 'song-unet'; set it to false"
        )
    for network in networks:
        cast(Any, network).enable_gradient_checkpointing()
    return module


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
