"""The toy host under the contract, and hosts that break it, one rule each."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.testing import ContractHost


class ToyContract(ContractHost):
    """Two small networks and a teacher; all random numbers come from the global generator."""

    installation: str | None = None

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.teacher = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 4))
        self.fake = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 4))
        self.fake.load_state_dict(self.teacher.state_dict())
        self.teacher.requires_grad_(False)
        self.own: nn.Module = nn.Linear(4, 4)
        self.probe = torch.randn(3, 4)
        torch.manual_seed(7 + self._rank())
        if distributed.is_initialized():
            self.own = DistributedDataParallel(self.own)
            self.fake = DistributedDataParallel(self.fake)  # type: ignore[assignment]
        self.optimizers = [
            torch.optim.Adam(module.parameters(), lr=0.01) for module in (self.own, self.fake)
        ]

    @staticmethod
    def _rank() -> int:
        return distributed.get_rank() if distributed.is_initialized() else 0

    @property
    def student(self) -> nn.Module:
        return self.own

    def student_state(self) -> dict[str, Any]:
        return self.optimizers[0].state_dict()

    def attach(self, config: DisBackConfig) -> DisBack:
        config = config.model_copy(update={"installation": self.installation})
        roles = {"teacher": self.teacher, "fake_score": self.fake, "student": self.own}
        return DisBack.attach(roles=roles, config=config)

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        if disback is None:
            return self.teacher(x)
        with disback.real_score() as network:
            return network(x)

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        turn = disback.begin_step(step) if disback else None
        losses = [] if turn and not turn.update_student else [self.update_student(disback)]
        with torch.no_grad():
            x0 = self.own(torch.randn(8, 4))
        loss = (self.fake(x0 + 0.3 * torch.randn_like(x0)) - x0).square().mean()
        losses.append(self.descend(loss, 1))
        if disback:
            disback.end_step(step)
        return losses

    def update_student(self, disback: DisBack | None) -> float:
        x0 = self.own(torch.randn(8, 4))
        with torch.no_grad():
            gradient = self.fake(x0) - self.real(disback, x0)
        return self.descend((x0 * gradient).mean(), 0)

    def descend(self, loss: Tensor, which: int) -> float:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()
        return loss.item()

    def predict_real(self, disback: DisBack | None) -> Tensor:
        return self.real(disback, self.probe)

    def predict_fake(self) -> Tensor:
        return self.fake(self.probe)

    def state_dict(self) -> dict[str, Any]:
        return {
            "networks": [module.state_dict() for module in (self.own, self.fake, self.teacher)],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for module, tensors in zip(
            (self.own, self.fake, self.teacher), state["networks"], strict=True
        ):
            module.load_state_dict(tensors)
        for optimizer, own in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        torch.set_rng_state(state["random"])


class SeparateContract(ToyContract):
    """The node is a module of its own."""

    installation = "separate"


class Unseeded(ToyContract):
    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        torch.seed()
        return super().train_step(step, disback)


class DrawsOnAttach(ToyContract):
    def attach(self, config: DisBackConfig) -> DisBack:
        torch.randn(1)
        return super().attach(config)


class MovesTheTeacher(ToyContract):
    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        losses = super().train_step(step, disback)
        with torch.no_grad():
            self.teacher[0].bias += 0.1  # type: ignore[index, operator, union-attr]
        return losses


class FrozenFake(ToyContract):
    def descend(self, loss: Tensor, which: int) -> float:
        return super().descend(loss, which) if which == 0 else loss.item()


class WrongTeacher(ToyContract):
    """The role's teacher is a copy: nodes go where nobody asks."""

    def attach(self, config: DisBackConfig) -> DisBack:
        copy = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 4))
        copy.load_state_dict(self.teacher.state_dict())
        roles = {"teacher": copy, "fake_score": self.fake, "student": self.own}
        return DisBack.attach(roles=roles, config=config)

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        return self.teacher(x)


class ForgetsTheNode(SeparateContract):
    """Asks the node when looked at, the teacher when training."""

    def update_student(self, disback: DisBack | None) -> float:
        return super().update_student(None)


class ForgetsItsOptimizer(ToyContract):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        fresh = [optimizer.state_dict() for optimizer in self.optimizers]
        super().load_state_dict(state | {"optimizers": fresh})


class Unsynchronised(ToyContract):
    def __init__(self) -> None:
        super().__init__()
        if distributed.is_initialized():
            self.own = self.own.module  # type: ignore[assignment]


class SameDataOnAllRanks(ToyContract):
    @staticmethod
    def _rank() -> int:
        return 0


class UnsynchronisedFake(ToyContract):
    """Only after recording, when nothing is compared with the node any more."""

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        losses = super().train_step(step, disback)
        if step == 7:
            with torch.no_grad():
                next(self.fake.parameters()).add_(self._rank())
        return losses


class HoldsByZeroGradients(ToyContract):
    """Adam's moments and step count move on; the parameters do not."""

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        losses = super().train_step(step, disback)
        if len(losses) == 1:
            for value in self.own.parameters():
                value.grad = torch.zeros_like(value)
            self.optimizers[0].step()
        return losses


class KeepsItsFirstNetwork(SeparateContract):
    """Trains against the module that answered first: right for every node, not for the teacher."""

    def update_student(self, disback: DisBack | None) -> float:
        if disback is not None and not hasattr(self, "kept"):
            with disback.real_score() as network:
                self.kept = network
        teacher, self.teacher = self.teacher, getattr(self, "kept", self.teacher)
        try:
            return super().update_student(None)
        finally:
            self.teacher = teacher


class KeepsMasterWeights(ToyContract):
    """The fake score's optimizer has weights of its own and overwrites what was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.masters = [value.detach().clone() for value in self.fake.parameters()]

    def descend(self, loss: Tensor, which: int) -> float:
        pairs = list(zip(self.fake.parameters(), self.masters, strict=True))
        self.optimizers[which].zero_grad()
        loss.backward()
        with torch.no_grad():
            for value, master in pairs:
                value.copy_(master)
            self.optimizers[which].step()
            for value, master in pairs:
                master.copy_(value)
        return loss.item()
