"""SwiftBrush (VinAIResearch/SwiftBrush): `teacher_lora` is both scores, `unet` the student."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.adapters.swiftbrush.measure import Draws, measure_of
from disback_plugin.errors import AdapterError
from disback_plugin.measure import Measure
from disback_plugin.real_score.installation import is_sharded


@dataclass(frozen=True)
class SwiftBrushHost:
    """The two networks of `train_swiftbrush.py`, wrapped or not.

    draws: what the script draws from, for the measure.
    """

    unet: nn.Module
    teacher_lora: nn.Module
    draws: Draws | None = None


@register_adapter
class SwiftBrushAdapter(Adapter):
    """`teacher_lora` answers as the real score with its adapters disabled, else as the fake one.

    So a node is a LoRA state, installed as a frozen adapter of its own (see `real_score/lora.py`).
    """

    name = "swiftbrush"
    host = "SwiftBrush, train_swiftbrush.py"
    found_at = Places("teacher_lora, adapters disabled", "teacher_lora", "unet")
    installations = ("lora",)

    def roles(self, host: Any) -> Roles:
        if not isinstance(host, SwiftBrushHost):
            raise AdapterError(
                f"{self.name} attaches to a SwiftBrushHost (seen: {type(host).__name__})"
            )
        if is_sharded(host.teacher_lora):
            raise AdapterError(
                "a LoRA node cannot be added to a network that FSDP has cut up: train SwiftBrush "
                "with DDP or on one device"
            )
        return Roles(host.teacher_lora, host.teacher_lora, host.unet)

    def measure(self, host: Any) -> Measure | None:
        return host.draws and measure_of(host.unet, host.teacher_lora, host.draws)
