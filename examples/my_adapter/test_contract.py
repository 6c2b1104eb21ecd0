"""The contract, run against this adapter: pytest examples/my_adapter."""

from typing import Any

import pytest
import torch
from my_adapter import MyAdapter
from my_trainer import MyTrainer
from torch import Tensor, nn

from disback_plugin import DisBack, DisBackConfig, register_adapter
from disback_plugin.testing import CHECKS, ContractHost

register_adapter(MyAdapter)  # not needed once the package is installed: its entry point does it
X = torch.linspace(-1, 1, 8).reshape(4, 2)


class MyHost(ContractHost):
    """MyTrainer, as the checks want to see it."""

    def __init__(self) -> None:
        self.trainer = MyTrainer()

    def attach(self, config: DisBackConfig) -> DisBack:
        return DisBack.attach(self.trainer, adapter="my-method", config=config)

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        return self.trainer.train_step(step, disback)

    @property
    def student(self) -> nn.Module:
        return self.trainer.generator

    def student_state(self) -> dict[str, Any]:
        return self.trainer.optimizer.state_dict()

    def predict_real(self, disback: DisBack | None) -> Tensor:
        return self.trainer.pretrained(X)

    def predict_fake(self) -> Tensor:
        return self.trainer.critic(X)

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self.trainer, name).state_dict() for name in self._parts}
        return {**own, "random": torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name in self._parts:
            getattr(self.trainer, name).load_state_dict(state[name])
        torch.set_rng_state(state["random"])

    _parts = ("generator", "critic", "optimizer", "critic_optimizer")


@pytest.mark.parametrize("check", CHECKS)
def test_my_adapter_keeps_the_contract(check: str) -> None:
    CHECKS[check](MyHost)
