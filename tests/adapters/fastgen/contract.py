"""The small host under the contract, with the callback in its loop as FastGen has it."""

import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.fastgen.teacher import answering
from disback_plugin.testing import ContractHost
from tests.adapters.fastgen.host import SMALL_HOST

sys.path.insert(0, str(SMALL_HOST))

from fastgen.methods import NUM_LABELS, SIZE, DMD2Model
from fastgen.trainer import Trainer

from disback_plugin.adapters.fastgen.callback import DisBackCallback

FIRST = 2  # iteration of the contract's step 0, so that step 6 is the student's turn


class FastGenContract(ContractHost):
    """Every second step is the student's; all random numbers come from the global generator."""

    def __init__(self) -> None:
        ddp = distributed.is_initialized()
        config = SimpleNamespace(
            trainer=SimpleNamespace(ddp=ddp, callbacks={}),
            log_config=SimpleNamespace(save_path="", name=""),
        )
        torch.manual_seed(1)
        self.model = DMD2Model(SimpleNamespace(student_update_freq=2, guidance_scale=2.0))
        self.trainer = Trainer(config)
        self.wrapped = self.trainer.prepare(self.model)
        self.probe = (torch.randn(3, SIZE), torch.ones(3))
        self.condition = torch.eye(NUM_LABELS)
        torch.manual_seed(7 + (distributed.get_rank() if ddp else 0))

    def attach(self, config: DisBackConfig) -> DisBack:
        callback = callback_of(config)
        callback.on_optimizer_init_end(self.model)
        self.trainer.callbacks._callbacks["disback"] = callback
        return callback.disback

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        losses = self.trainer.train_step(self.wrapped, self.model, step + FIRST)
        return [value.item() for name, value in losses.items() if "disback" not in name]

    @property
    def student(self) -> nn.Module:
        return self.model.net

    def student_state(self) -> dict[str, Any]:
        return self.model.optimizers[0].state_dict()

    def predict_real(self, disback: DisBack | None) -> Tensor:
        teacher = self.model.teacher
        score = disback.real_score() if disback else nullcontext(teacher)
        with score as network, answering(teacher, network):
            return self.model._compute_teacher_prediction_gan_loss(*self.probe, self.condition)[0]

    def predict_fake(self) -> Tensor:
        return self.model.fake_score(*self.probe, self.condition)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.model.optimizers],
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimizer, own in zip(self.model.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(own)
        torch.set_rng_state(state["random"])


def callback_of(config: DisBackConfig) -> DisBackCallback:
    """The callback with these settings, as from a command line."""
    assert config.record is not None
    record = config.record.model_dump(mode="json", exclude_none=True)
    schedule = config.schedule.settings()
    return DisBackCallback(str(config.path), config.arm, record=record, schedule=schedule)
