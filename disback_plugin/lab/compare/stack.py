"""Networks of one architecture, their batches and optimizers, stacked: all seeds step at once."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.utils.rnn import pad_sequence

from disback_plugin.diffusion import Condition
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.training import OptimizerSettings
from disback_plugin.lab.trainer.batches import Batch

Stacked = dict[str, Tensor]
EPS = 1e-8  # of AdamW, torch's default


class Stack:
    """S networks as tensors (S, *shape); a lane is one of them. Calls are batched by `vmap`.

    `params` may be trained: the sum over lanes of a loss gives every lane its own gradient.
    Networks with convolutions are called one after the other: `vmap` makes a grouped convolution
    of them, which a CPU takes longer for (1.5 times as long for 4 small U-Nets).
    """

    def __init__(self, modules: Sequence[nn.Module], trainable: bool = False) -> None:
        params, self.buffers = stack_module_state(list(modules))
        self.params: Stacked = {
            name: value.detach().clone().requires_grad_(trainable) for name, value in params.items()
        }
        self._skeleton = copy.deepcopy(modules[0]).to("meta")
        self._one_by_one = any(isinstance(part, nn.Conv2d) for part in modules[0].modules())

    @property
    def num_lanes(self) -> int:
        """S."""
        return len(next(iter(self.params.values())))

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        """Inputs (S, B, ...) or None, in the module's order -> outputs (S, B, ...)."""
        if self._one_by_one:
            return self._call_in_turn(inputs)
        dims = tuple(None if value is None else 0 for value in inputs)
        return vmap(self._call_one, (0, 0, dims))(self.params, self.buffers, inputs)

    def _call_in_turn(self, inputs: tuple[Tensor | None, ...]) -> Tensor:
        parts = {name: value.unbind() for name, value in self.params.items()}  # one backward each
        answers = []
        for lane in range(self.num_lanes):
            params = {name: values[lane] for name, values in parts.items()}
            buffers = {name: value[lane] for name, value in self.buffers.items()}
            given = tuple(None if value is None else value[lane] for value in inputs)
            answers.append(self._call_one(params, buffers, given))
        return torch.stack(answers)

    def call_lane(self, lane: int, weights: Mapping[str, Tensor], *inputs: Tensor | None) -> Tensor:
        """One network of this architecture, with one lane of stacked `weights`; inputs (B, ...)."""
        params, buffers = (
            {name: value[lane] for name, value in stacked.items()}
            for stacked in (weights, self.buffers)
        )
        return self._call_one(params, buffers, inputs)

    def _call_one(
        self, params: Stacked, buffers: Stacked, inputs: tuple[Tensor | None, ...]
    ) -> Tensor:
        return functional_call(self._skeleton, (params, buffers), inputs)

    def snapshot(self) -> Stacked:
        """Copies of all stacked parameters."""
        return {name: value.detach().clone() for name, value in self.params.items()}

    @torch.no_grad()
    def load(self, source: Mapping[str, Tensor], lanes: Tensor) -> None:
        """Copy `source` (S, ...) into the lanes where the mask (S,) is True."""
        for name, own in self.params.items():
            own[lanes] = source[name][lanes]


@dataclass(frozen=True)
class StackedBatch:
    """The draws of all lanes at a step.

    z (S, B, *latent), eps (S, B, *data), sigma (S, B), cond: labels (S, B) or None.
    share (S, B): of a row in its lane's mean; 0 for the rows that fill a smaller batch up.
    """

    z: Tensor
    eps: Tensor
    sigma: Tensor
    cond: Tensor | None
    share: Tensor

    @classmethod
    def stack(cls, draws: Sequence[Batch]) -> "StackedBatch":
        """One draw a lane. Raises ConfigError for text conditions, which do not stack."""
        labels = [label_tensor(draw.cond) for draw in draws]
        given = [part for part in labels if part is not None]
        return cls(
            z=_filled_up([draw.z for draw in draws]),
            eps=_filled_up([draw.eps for draw in draws]),
            sigma=_filled_up([draw.sigma for draw in draws]),
            cond=_filled_up(given) if given else None,
            share=pad_sequence(
                [draw.sigma.new_full((len(draw.z),), 1 / len(draw.z)) for draw in draws], True
            ),
        )


def per_lane(values: Tensor, like: Tensor) -> Tensor:
    """(S,) for broadcasting against (S, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _filled_up(lanes: list[Tensor]) -> Tensor:
    """(S, B, ...); a lane of fewer rows is filled up with its own, again from the first."""
    num = max(len(lane) for lane in lanes)
    return torch.stack([lane[torch.arange(num) % len(lane)] for lane in lanes])


def label_tensor(cond: Condition | None) -> Tensor | None:
    """Class labels (B,) or None."""
    if cond is None or isinstance(cond, Tensor):
        return cond
    raise ConfigError("compare takes classes or no labels, not prompts: use `disback run`")


class StackedOptimizer(ABC):
    """One optimizer a lane, all in one go; a lane that is not `active` keeps weights and state."""

    num_slots: ClassVar[int]  # tensors of state for each of the weights

    def __init__(self, stack: Stack, settings: OptimizerSettings) -> None:
        self.stack, self.settings = stack, settings
        self.slots: list[Stacked] = [
            {name: torch.zeros_like(value) for name, value in stack.params.items()}
            for _ in range(self.num_slots)
        ]
        self.steps = torch.zeros(stack.num_lanes)

    def reset(self, lanes: Tensor) -> None:
        """Forget the state of the lanes where the mask (S,) is True."""
        self.steps[lanes] = 0
        for slot in self.slots:
            for value in slot.values():
                value[lanes] = 0

    @torch.no_grad()
    def step(
        self, grads: Stacked, lr: Tensor, active: Tensor, max_norm: float | None = None
    ) -> Tensor:
        """Clip to `max_norm` per lane and update; lr and active (S,); returns norms (S,)."""
        norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads.values()]).norm(dim=0)
        if max_norm is not None:
            share = (max_norm / (norms + 1e-6)).clamp_max(1)
            grads = {name: grad * per_lane(share, grad) for name, grad in grads.items()}
        self.steps += active
        self._update(grads, lr, active)
        return norms

    @abstractmethod
    def _update(self, grads: Stacked, lr: Tensor, active: Tensor) -> None: ...


class StackedAdamW(StackedOptimizer):
    """As `torch.optim.AdamW`."""

    num_slots = 2

    def _update(self, grads: Stacked, lr: Tensor, active: Tensor) -> None:
        (beta1, beta2), decay = self.settings.betas, self.settings.weight_decay
        count = self.steps.clamp_min(1)
        rate = active * lr / (1 - beta1**count)
        root = (1 - beta2**count).sqrt()
        still = ~active
        for name, own in self.stack.params.items():
            grad = grads[name]
            mean, square = (slot[name] for slot in self.slots)
            before = mean[still], square[still]
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            mean.lerp_(grad, 1 - beta1) if beta1 else mean.copy_(grad)
            mean[still], square[still] = before
            if decay:
                own.mul_(1 - per_lane(active * lr * decay, own))
            own.sub_(per_lane(rate, own) * mean / (square.sqrt() / per_lane(root, own) + EPS))


class StackedSGD(StackedOptimizer):
    """As `torch.optim.SGD`."""

    num_slots = 1

    def _update(self, grads: Stacked, lr: Tensor, active: Tensor) -> None:
        assert self.settings.momentum is not None
        for name, own in self.stack.params.items():
            grad = grads[name] + self.settings.weight_decay * own
            velocity, on = self.slots[0][name], per_lane(active, own)
            moved = self.settings.momentum * velocity + grad
            velocity.copy_(torch.where(on, moved, velocity))
            own.sub_(per_lane(active * lr, own) * velocity)


def make_stacked(stack: Stack, settings: OptimizerSettings) -> StackedOptimizer:
    """The stacked counterpart of `settings.make`: equal to it per lane, up to rounding."""
    kind = StackedAdamW if settings.momentum is None else StackedSGD
    return kind(stack, settings)
