"""The adapter and its overlay, on a LoRA in SwiftBrush's place."""

import argparse
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from disback_plugin import DisBack, DisBackConfig
from disback_plugin.adapters.swiftbrush.overlay import Overlay, add_arguments
from tests.adapters.runs import as_flags
from tests.testing.toy_contract import ToyContract


def arguments(config: DisBackConfig) -> argparse.Namespace:
    """The flags that mean these settings."""
    assert config.record is not None
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given: dict[str, Any] = {"path": config.path, "arm": config.arm}
    given |= {"record_iters": config.record.num_steps, **config.schedule.settings()}
    given["record_at"] = ",".join(map(str, config.record.node_steps))
    given["schedule"] = given.pop("name")
    flags = as_flags({f"disback_{name}": value for name, value in given.items()})
    return parser.parse_args(["--disback", *flags])


class SwiftBrushContract(ToyContract):
    """The toy's networks with SwiftBrush's switches: the fake score is the teacher with a LoRA."""

    run: Overlay | None = None

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        config = LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"])
        self.base = inject_adapter_in_model(config, self.teacher)
        self.fake: Any = self.base
        if distributed.is_initialized():
            self.fake = DistributedDataParallel(self.base)
        trained = [value for value in self.base.parameters() if value.requires_grad]
        self.optimizers[1] = torch.optim.Adam(trained, lr=0.01)
        torch.manual_seed(7 + self._rank())

    def attach(self, config: DisBackConfig) -> DisBack:
        self.run = Overlay(arguments(config), self.own, self.fake)
        assert self.run.session is not None
        return self.run.session

    def real(self, disback: DisBack | None, x: Tensor) -> Tensor:
        self._enable(False)
        if self.run is not None:
            self.run.show_real_score()
        answer = self.base(x)
        if self.run is not None:
            self.run.hide_real_score()
        self._enable(True)
        return answer

    def _enable(self, on: bool) -> None:
        for layer in self.base.modules():
            if isinstance(layer, LoraLayer):
                layer.enable_adapters(on)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "networks": [self.own.state_dict(), self.fake.state_dict()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({**state, "networks": [*state["networks"], self.base.state_dict()]})
