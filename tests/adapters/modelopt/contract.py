"""Model Optimizer's pipeline under the contract, without a discriminator and with one."""

from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.testing import ContractHost
from tests.adapters.modelopt.loop import GAN, Loop


class ModelOptContract(ContractHost):
    """Every second step is the student's: step 6 of the contract is."""

    settings: ClassVar[dict[str, Any]] = {"guidance_scale": 2.0}

    dtype, sharded = torch.float32, False

    def __init__(self) -> None:
        self.loop = Loop(self.settings, self.dtype, self.sharded)
        with torch.random.fork_rng():
            torch.manual_seed(3)  # the same on all ranks
            data = self.loop.batch()
        latents, _ = data.pop("latents"), data.pop("noise")
        self.probe = {"hidden_states": latents, "timestep": torch.tensor([0.3, 0.7]), **data}

    def attach(self, config: DisBackConfig) -> DisBack:
        return DisBack.attach(self.loop.pipeline, adapter="modelopt", config=config)

    def train_step(self, step: int, disback: DisBack | None) -> list[float]:
        return self.loop.step(step, disback)

    @property
    def student(self) -> nn.Module:
        return self.loop.pipeline.student

    def student_state(self) -> dict[str, Any]:
        own = {"optimizer": self.loop.optimizers[0].state_dict()}
        return {**own, "ema": self.loop.pipeline.ema.state_dict()}

    def predict_real(self, disback: DisBack | None) -> Tensor:
        score = disback.real_score() if disback else nullcontext(self.loop.pipeline.teacher)
        with score as network:
            return self._predict(network)

    def predict_fake(self) -> Tensor:
        return self._predict(self.loop.networks["fake_score"])

    def state_dict(self) -> dict[str, Any]:
        return self.loop.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loop.load_state_dict(state)

    def _predict(self, network: nn.Module) -> Tensor:
        x0 = self.loop.pipeline._predict_x0(network, **self.probe)
        getattr(self.loop.pipeline.teacher, "_fastgen_captured", []).clear()  # not a step's
        return x0


class ModelOptGANContract(ModelOptContract):
    settings: ClassVar[dict[str, Any]] = {"guidance_scale": 2.0, **GAN}


class ModelOptShardedContract(ModelOptContract):
    """Under `fully_shard`, in a process group; the average of the student is cut up with it."""

    sharded = True


class ModelOptBF16Contract(ModelOptContract):
    dtype = torch.bfloat16
