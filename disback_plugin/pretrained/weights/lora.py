"""A student that is a LoRA in training, as peft keeps it inside its U-Net: split, and fused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.tensors import misfit

_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<factor>[AB])\.(?P<adapter>[^.]+)\.weight")
_BASE = ".base_layer."


@dataclass(frozen=True)
class TrainedLoRA:
    """What is added to each module's weight: alpha / rank B A. factors: `MODULE.lora_A.weight`."""

    rank: int
    alpha: float
    factors: dict[str, Tensor]

    @property
    def modules(self) -> list[str]:
        """The modules that it is added to."""
        return sorted({name.rpartition(".lora_")[0] for name in self.factors})


def has_lora(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a network with peft's layers inside."""
    return any(_FACTOR.fullmatch(name) for name in tensors)


def split_lora(
    tensors: Mapping[str, Tensor], alpha: float, source: str
) -> tuple[dict[str, Tensor], TrainedLoRA]:
    """The network's own tensors, named as without LoRA, and the LoRA; CheckpointError."""
    own: dict[str, Tensor] = {}
    factors: dict[str, Tensor] = {}
    adapters, ranks = set(), set()
    for name, value in tensors.items():
        found = _FACTOR.fullmatch(name)
        if found is None:
            own[name.replace(_BASE, ".")] = value
            continue
        adapters.add(found["adapter"])
        ranks.add(value.shape[0 if found["factor"] == "A" else 1])
        factors[f"{found['module']}.lora_{found['factor']}.weight"] = value
    if len(adapters) > 1 or len(ranks) > 1:
        raise CheckpointError(
            f"{source} holds adapters {sorted(adapters)} of ranks {sorted(ranks)}: only one of one "
            "rank is read"
        )
    return own, TrainedLoRA(ranks.pop(), alpha, factors)


def fuse(unet: Any, lora: TrainedLoRA, source: str) -> None:
    """Add the LoRA's products to the U-Net's weights; CheckpointError where it does not fit."""
    if not hasattr(unet, "add_adapter"):
        raise CheckpointError(f"{source} holds a LoRA, and its base is no U-Net of diffusers")
    unet.add_adapter(peft_config(lora), adapter_name="student")
    state = unet.state_dict()
    own = {
        _with_adapter(name): value.to(state[_with_adapter(name)].dtype)
        for name, value in lora.factors.items()
        if _with_adapter(name) in state
    }
    due = {name: value for name, value in state.items() if ".lora_" in name}
    if problem := misfit(due, own):
        raise CheckpointError(f"the LoRA in {source} does not fit its base: {problem}")
    with torch.no_grad():
        for name, value in own.items():
            state[name].copy_(value)
    unet.fuse_lora()
    unet.unload_lora()


def peft_config(lora: TrainedLoRA) -> Any:
    """As peft describes it."""
    from peft import LoraConfig

    alpha: Any = lora.alpha  # peft says int, and takes any number
    return LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=lora.modules)


def _with_adapter(name: str) -> str:
    return name.removesuffix(".weight") + ".student.weight"
