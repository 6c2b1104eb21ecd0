"""Optimizers over stacked weights: each lane with its own rate, steps and right to stand still."""

from typing import Protocol

import torch
from torch import Tensor

from disback_plugin.lab.compare.stack import Stack, Stacked, per_lane
from disback_plugin.lab.config.training import OptimizerSettings

EPS = 1e-8  # torch's default


class StackedOptimizer(Protocol):
    """One optimizer a lane, all in one go; a lane that is not `active` keeps weights and state."""

    def step(
        self, grads: Stacked, lr: Tensor, active: Tensor, max_norm: float | None = None
    ) -> Tensor:
        """Clip to `max_norm` per lane and update; lr and active (S,); returns norms (S,)."""

    def reset(self, lanes: Tensor) -> None:
        """Forget the state of the lanes where the mask (S,) is True."""


def make_stacked(stack: Stack, settings: OptimizerSettings) -> StackedOptimizer:
    """The stacked counterpart of `settings.make`: equal to it per lane, up to rounding."""
    if settings.momentum is None:
        return StackedAdamW(stack, settings.betas, settings.weight_decay)
    return StackedSGD(stack, settings.momentum, settings.weight_decay)


class StackedAdamW:
    """As `torch.optim.AdamW`."""

    def __init__(self, stack: Stack, betas: tuple[float, float], weight_decay: float) -> None:
        self.stack, self.betas, self.weight_decay = stack, betas, weight_decay
        self.mean = _zeros(stack)
        self.square = _zeros(stack)
        self.steps = torch.zeros(stack.num_lanes)

    def reset(self, lanes: Tensor) -> None:
        self.steps[lanes] = 0
        _forget(self.mean, lanes)
        _forget(self.square, lanes)

    @torch.no_grad()
    def step(
        self, grads: Stacked, lr: Tensor, active: Tensor, max_norm: float | None = None
    ) -> Tensor:
        norms = _norms(grads)
        self.steps += active
        beta1, beta2 = self.betas
        count = self.steps.clamp_min(1)
        rate = active * lr / (1 - beta1**count)
        root = (1 - beta2**count).sqrt()
        still = ~active
        for name, own in self.stack.params.items():
            grad = _clipped(grads[name], norms, max_norm)
            mean, square = self.mean[name], self.square[name]
            before = mean[still], square[still]
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            mean.lerp_(grad, 1 - beta1) if beta1 else mean.copy_(grad)
            mean[still], square[still] = before
            if self.weight_decay:
                own.mul_(1 - per_lane(active * lr * self.weight_decay, own))
            own.sub_(per_lane(rate, own) * mean / (square.sqrt() / per_lane(root, own) + EPS))
        return norms


class StackedSGD:
    """As `torch.optim.SGD`."""

    def __init__(self, stack: Stack, momentum: float, weight_decay: float) -> None:
        self.stack, self.momentum, self.weight_decay = stack, momentum, weight_decay
        self.velocity = _zeros(stack)

    def reset(self, lanes: Tensor) -> None:
        _forget(self.velocity, lanes)

    @torch.no_grad()
    def step(
        self, grads: Stacked, lr: Tensor, active: Tensor, max_norm: float | None = None
    ) -> Tensor:
        norms = _norms(grads)
        for name, own in self.stack.params.items():
            grad = _clipped(grads[name], norms, max_norm) + self.weight_decay * own
            velocity, on = self.velocity[name], per_lane(active, own)
            velocity.copy_(torch.where(on, self.momentum * velocity + grad, velocity))
            own.sub_(per_lane(active * lr, own) * velocity)
        return norms


def _zeros(stack: Stack) -> Stacked:
    return {name: torch.zeros_like(value) for name, value in stack.params.items()}


def _forget(state: Stacked, lanes: Tensor) -> None:
    for value in state.values():
        value[lanes] = 0


def _norms(grads: Stacked) -> Tensor:
    return torch.stack([grad.flatten(1).norm(dim=1) for grad in grads.values()]).norm(dim=0)


def _clipped(grad: Tensor, norms: Tensor, max_norm: float | None) -> Tensor:
    if max_norm is None:
        return grad
    return grad * per_lane((max_norm / (norms + 1e-6)).clamp_max(1), grad)
