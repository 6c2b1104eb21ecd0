"""A stand-in for your own trainer: score distillation of two-dimensional data."""

import copy

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from disback_plugin import DisBack


class MyTrainer:
    """`disback` is None without the plugin; four lines marked `DisBack` are all that it needs."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.pretrained = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 2))
        self.critic: nn.Module = copy.deepcopy(self.pretrained)
        self.generator: nn.Module = nn.Linear(2, 2)
        self.pretrained.requires_grad_(False)
        if distributed.is_initialized():
            torch.manual_seed(distributed.get_rank())
            self.critic = DistributedDataParallel(self.critic)
            self.generator = DistributedDataParallel(self.generator)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=1e-3)
        self.optimizer = torch.optim.Adam(self.generator.parameters(), lr=1e-3)

    def train_step(self, step: int, disback: DisBack | None = None) -> list[float]:
        turn = disback.begin_step(step) if disback else None  # DisBack
        losses = []
        if turn is None or turn.update_student:  # DisBack
            losses.append(self._train_generator())
        losses.append(self._train_critic())
        if disback:
            disback.end_step(step)  # DisBack
        return losses

    def _train_generator(self) -> float:
        x0 = self.generator(torch.randn(32, 2))
        x_t = x0.detach() + 0.5 * torch.randn_like(x0)
        with torch.no_grad():
            gradient = self.critic(x_t) - self.pretrained(x_t)
        return self._descend((x0 * gradient).mean(), self.optimizer)

    def _train_critic(self) -> float:
        with torch.no_grad():
            x0 = self.generator(torch.randn(32, 2))
        x0_hat = self.critic(x0 + 0.5 * torch.randn_like(x0))
        return self._descend((x0_hat - x0).square().mean(), self.critic_optimizer)

    @staticmethod
    def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()
