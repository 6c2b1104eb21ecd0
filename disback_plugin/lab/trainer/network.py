"""A network in training: wrapper, optimizer, average and their state; what makes it faster."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from disback_plugin.diffusion import Denoiser
from disback_plugin.distributed import is_main
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.experiment import ExperimentConfig
from disback_plugin.lab.config.training import OptimizerSettings
from disback_plugin.lab.trainer.checkpoint import Checkpoint
from disback_plugin.lab.trainer.sharding import (
    Whole,
    clip_gradients,
    cut_as,
    cuts_up,
    gathered,
    optimizer_places,
    prepare,
    shard,
)
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
        is_cut = cuts_up(accelerator) and self.ema is not None
        self._whole_ema = Whole(self.ema.module) if is_cut and self.ema is not None else None
        self.network, self.optimizer = prepare(module, optimizer, accelerator)
        self.num_updates = 0
        if self.ema is not None:
            shard(self.ema.module, accelerator)
            self.ema.to(accelerator.device)

    def update(self, lr: float, max_norm: float | None) -> Tensor:
        """Clip, step, drop the gradients, average; returns the norm before clipping, a scalar."""
        own = self.network.parameters()
        norm = clip_gradients(self.accelerator, self.optimizer, own, max_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            if self._decay is not None:
                self.ema.multi_avg_fn = get_ema_multi_avg_fn(self._decay(self.num_updates))
            self.ema.update_parameters(self.raw)
        self.num_updates += 1
        return norm

    def averaged(self) -> nn.Module:
        """The average, to be called whole; on all processes but the main one it may be empty."""
        assert self.ema is not None
        if self._whole_ema is None:
            return self.ema
        tensors = gathered(self.ema.module.state_dict())
        return self._whole_ema.filled(tensors, self.accelerator.device) if is_main() else self.ema

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Plain data and groups of tensors, all named after this network.

        Called on every process; whole on the main one.
        """
        tensors, plain = pack_optimizer(self.optimizer.optimizer)
        groups = {self.name: self.raw.state_dict(), f"{self.name}_optimizer": tensors}
        if self.ema is not None:
            groups[f"{self.name}_ema"] = self.ema.state_dict()
        groups = {name: gathered(group) for name, group in groups.items()}
        return {f"{self.name}_optimizer": plain}, groups

    def restore(self, checkpoint: Checkpoint) -> None:
        """Load what `state` gave, strictly; RunError where it does not fit."""
        self._load(self.raw, checkpoint, self.name)
        if self.ema is not None:
            self._load(self.ema, checkpoint, f"{self.name}_ema")
            self.num_updates = int(self.ema.n_averaged) - 1  # which starts at 1
        key, optimizer = f"{self.name}_optimizer", self.optimizer.optimizer
        tensors = checkpoint.tensors[key]
        tensors = cut_as(tensors, optimizer_places(optimizer, tensors))
        unpack_optimizer(optimizer, tensors, checkpoint.state[key])

    @staticmethod
    def _load(module: nn.Module, checkpoint: Checkpoint, key: str) -> None:
        tensors = cut_as(checkpoint.tensors[key], module.state_dict())
        load_weights(module, tensors, f"{key} in checkpoint {checkpoint.step}")


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
