"""AdamW over stacked weights: each lane with its own rate, step count and right to stand still."""

import torch
from torch import Tensor

from disback_plugin.compare.stack import Stack, Stacked

EPS = 1e-8  # torch's default


class StackedAdamW:
    """One AdamW a lane, all in one go; a lane that is not `active` keeps weights and state.

    Equal to `torch.optim.AdamW` per lane, up to rounding.
    """

    def __init__(self, stack: Stack, betas: tuple[float, float], weight_decay: float) -> None:
        self.stack, self.betas, self.weight_decay = stack, betas, weight_decay
        self.mean = {name: torch.zeros_like(value) for name, value in stack.params.items()}
        self.square = {name: torch.zeros_like(value) for name, value in stack.params.items()}
        self.steps = torch.zeros(stack.num_lanes)

    def reset(self, lanes: Tensor) -> None:
        """Forget the state of the lanes where the mask (S,) is True."""
        self.steps[lanes] = 0
        for state in (self.mean, self.square):
            for value in state.values():
                value[lanes] = 0

    @torch.no_grad()
    def step(
        self, grads: Stacked, lr: Tensor, active: Tensor, max_norm: float | None = None
    ) -> Tensor:
        """Clip to `max_norm` per lane and update; lr and active (S,); returns norms (S,)."""
        norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
        self.steps += active
        beta1, beta2 = self.betas
        count = self.steps.clamp_min(1)
        rate = active * lr / (1 - beta1**count)
        root = (1 - beta2**count).sqrt()
        whole = bool(active.all())
        for name, own in self.stack.params.items():
            grad = grads[name]
            if max_norm is not None:
                grad = grad * _wide((max_norm / (norms + 1e-6)).clamp_max(1), own)
            mean, square = self.mean[name], self.square[name]
            if whole:
                square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                mean.lerp_(grad, 1 - beta1) if beta1 else mean.copy_(grad)
            else:
                on = _wide(active, own)
                square.copy_(torch.where(on, beta2 * square + (1 - beta2) * grad * grad, square))
                mean.copy_(torch.where(on, torch.lerp(mean, grad, 1 - beta1), mean))
            if self.weight_decay:
                own.mul_(1 - _wide(active * lr * self.weight_decay, own))
            own.sub_(_wide(rate, own) * mean / (square.sqrt() / _wide(root, own) + EPS))
        return norms


def _wide(per_lane: Tensor, like: Tensor) -> Tensor:
    return per_lane.reshape(-1, *[1] * (like.ndim - 1))
