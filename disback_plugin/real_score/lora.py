"""Installation for hosts whose real and fake score share a base: nodes are LoRA states (PEFT).

Loading a node into the base would change the fake score too, so it becomes a second, frozen adapter
that is active only while the real score is evaluated. Base and trained adapter stay untouched.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from disback_plugin.errors import InstallError
from disback_plugin.path import NodePrecision, TeacherReference
from disback_plugin.real_score.installation import (
    Installation,
    InstallReport,
    copy_tensors,
    unwrap,
)

NODE_ADAPTER = "disback_node"


class LoRAAdapter(Installation):
    """`model` holds the base and the trained adapter; the base alone is the teacher (node 0)."""

    name = "lora"

    def __init__(self, model: nn.Module, rounding: str, trained: str | None = None) -> None:
        self.model, self.rounding = unwrap(model), rounding
        layers = self._layers()
        if not layers:
            raise InstallError(
                "real and fake score are one module, but it has no LoRA layer: add an adapter "
                "before attaching, or give two separate networks"
            )
        self.trained = trained or _single_adapter(layers)
        with _flags_kept(self.model, layers), torch.random.fork_rng():  # its init draws numbers
            configs: Any = self.model.peft_config
            config = configs[self.trained]
            with warnings.catch_warnings():  # a second adapter is what we want
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                inject_adapter_in_model(config, _injectable(self.model), adapter_name=NODE_ADAPTER)
        for parameter in self._adapter_tensors(NODE_ADAPTER).values():
            parameter.requires_grad_(False)
        own = self._adapter_tensors(self.trained)
        zeros = {name: torch.zeros_like(value) for name, value in own.items()}
        self.reference = TeacherReference.of(zeros, identity=self._base_tensors())
        self._node = 0

    def read_fake_score(self) -> dict[str, Tensor]:
        own = self._adapter_tensors(self.trained)
        return {name: value.detach().cpu().clone() for name, value in own.items()}

    def load_fake_score(self, tensors: Mapping[str, Tensor]) -> None:
        copy_tensors(self._adapter_tensors(self.trained), tensors, "nearest", "fake_score")

    def install(self, node: int, tensors: Mapping[str, Tensor]) -> InstallReport:
        own = self._adapter_tensors(NODE_ADAPTER)
        previous, self._node = self._node, node
        if node == 0:  # the base alone answers: nothing to copy
            return InstallReport(len(own) if previous else 0, len(own), 0.0)
        changed = copy_tensors(own, tensors, self.rounding, f"node {node}")
        return InstallReport(changed, len(own), self._distance(NODE_ADAPTER))

    @contextmanager
    def evaluate(self) -> Iterator[nn.Module]:
        layers = self._layers()
        with _flags_kept(self.model, layers):
            for layer in layers:
                if self._node == 0:
                    layer.enable_adapters(False)
                else:
                    layer.set_adapter([NODE_ADAPTER])
            yield self.model

    def measure(self, tensors: Mapping[str, Tensor]) -> NodePrecision:
        """Distance of the merged weights: |scale B A| / |W| over the adapted layers."""
        return NodePrecision(distance=self._distance(self.trained))

    @torch.no_grad()
    def _distance(self, adapter: str) -> float:
        gap = size = 0.0
        layer: Any  # every adapted layer has a base and a delta weight, the base class does not say
        for layer in self._layers():
            gap += layer.get_delta_weight(adapter).double().square().sum().item()
            size += layer.get_base_layer().weight.double().square().sum().item()
        return float((gap / size) ** 0.5)

    def _layers(self) -> list[LoraLayer]:
        return [module for module in self.model.modules() if isinstance(module, LoraLayer)]

    def _adapter_tensors(self, adapter: str) -> dict[str, Tensor]:
        """Live tensors of one adapter under names without the adapter's own."""
        return {
            ".".join(part for part in name.split(".") if part != adapter): value
            for name, value in self.model.named_parameters()
            if ".lora_" in name and adapter in name.split(".")
        }

    def _base_tensors(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if ".lora_" not in name}


def _injectable(model: nn.Module) -> nn.Module:
    """A PeftModel holds the network one level down; a network adapted in place is itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model


def _single_adapter(layers: list[LoraLayer]) -> str:
    active = {name for layer in layers for name in layer.active_adapters}
    if len(active) != 1:
        raise InstallError(
            f"the fake score should have one active LoRA adapter, the trained one; it has "
            f"{sorted(active)}"
        )
    return active.pop()


@contextmanager
def _flags_kept(model: nn.Module, layers: list[LoraLayer]) -> Iterator[None]:
    """PEFT's switches also flip `requires_grad`; put adapters and flags back as they were."""
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    active = [(layer, list(layer.active_adapters), layer.disable_adapters) for layer in layers]
    try:
        yield
    finally:
        for layer, names, disabled in active:
            layer.set_adapter(names)
            if disabled != layer.disable_adapters:
                layer.enable_adapters(not disabled)
        for name, parameter in model.named_parameters():
            if name in flags:
                parameter.requires_grad_(flags[name])
