"""DMD2's adapters, on networks in DMD2's places."""

from typing import Any

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.dmd2 import DMD2Host, remember_teacher
from tests.testing.toy_contract import ToyContract


class DMD2Contract(ToyContract):
    """The toy's networks, held and wrapped as DMD2 holds and wraps its own."""

    adapter = "dmd2-sd"

    def __init__(self) -> None:
        super().__init__()
        guidance = nn.Module()
        guidance.real_unet, guidance.fake_unet = self.teacher, self._bare(self.fake)
        guidance.forward = lambda x: guidance.fake_unet(x)  # type: ignore[method-assign]
        self.model: Any = nn.Module()
        self.model.feedforward_model = self._bare(self.own)
        self.model.guidance_model = guidance
        self.remembered = remember_teacher(self.model)
        if distributed.is_initialized():  # DMD2 wraps the two, teacher and fake score in one
            self.model.guidance_model = DistributedDataParallel(guidance)
            self.model.feedforward_model = DistributedDataParallel(self.model.feedforward_model)
        self.own, self.fake = self.model.feedforward_model, self.model.guidance_model

    @staticmethod
    def _bare(module: nn.Module) -> nn.Module:
        return module.module if isinstance(module, DistributedDataParallel) else module

    def attach(self, config: DisBackConfig) -> DisBack:
        host = DMD2Host(self.model, self.remembered)
        return DisBack.attach(host, adapter=self.adapter, config=config)

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        return self.teacher(x)  # as DMD2 asks: its own module


class DMD2EDMContract(DMD2Contract):
    adapter = "dmd2-edm"
