"""A network in training: Accelerate's wrapper, optimizer, EMA, and their state in checkpoints."""

import math
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from disback_plugin.lab.config.optimizer import OptimizerSettings
from disback_plugin.lab.trainer.checkpoint import Checkpoint
from disback_plugin.lab.trainer.ema import make_ema
from disback_plugin.tensors import load_weights, pack_optimizer, unpack_optimizer

Tensors = dict[str, dict[str, Tensor]]


class Trainee:
    """`network` is what to call and to differentiate; `raw` is the module inside its wrappers.

    num_updates: since this object was made.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        accelerator: Accelerator,
        optimizer: OptimizerSettings,
        ema_decay: float | None = None,
        dropout: bool = True,
    ) -> None:
        self.name, self.raw, self.accelerator = name, module.train(dropout), accelerator
        self.ema = None if ema_decay is None else make_ema(module, ema_decay)
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
        self.num_updates += 1
        if self.ema is not None:
            self.ema.update_parameters(self.raw)
        assert norm is not None
        return norm.detach()

    def state(self) -> tuple[dict[str, Any], Tensors]:
        """Plain data and groups of tensors, all named after this trainee."""
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
        key = f"{self.name}_optimizer"
        unpack_optimizer(self.optimizer.optimizer, checkpoint.tensors[key], checkpoint.state[key])
