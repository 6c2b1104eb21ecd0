"""The node adapter inside a host's PEFT layers: invisible to the host unless it is switched on.

Its tensors are non-persistent buffers, not parameters: they move with the module, but no optimizer,
EMA, `state_dict` or strict `load_state_dict` of the host meets them. Its config is not kept either,
so `save_pretrained` writes the host's adapters only.
"""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from disback_plugin.errors import InstallError

NODE_ADAPTER = "disback_node"
_BEYOND_THE_LAYERS = "trains weights outside the LoRA layers, which a node does not hold"
_REFUSED = {
    "bias": ("none", _BEYOND_THE_LAYERS),
    "modules_to_save": (None, _BEYOND_THE_LAYERS),
    "trainable_token_indices": (None, _BEYOND_THE_LAYERS),
    "target_parameters": (None, "adapts single parameters, which is not supported"),
}
# these write into the base, and the base alone is the teacher
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    """All adapted layers, none of them merged."""
    layers: list[LoraLayer] = [m for m in model.modules() if isinstance(m, LoraLayer)]
    if any(layer.merged for layer in layers):
        raise InstallError(
            "the host merged an adapter into the base, so the base is not the teacher: unmerge it "
            "(model.unmerge_adapter()) first"
        )
    return layers


def single_adapter(layers: list[LoraLayer]) -> str:
    """The one active adapter: what the host trains."""
    active = {name for layer in layers for name in layer.active_adapters}
    if len(active) != 1:
        raise InstallError(
            f"the fake score should have one active LoRA adapter, the trained one; it has "
            f"{sorted(active)}"
        )
    return active.pop()


def adapter_tensors(model: nn.Module, adapter: str) -> dict[str, Tensor]:
    """Live tensors of one adapter under names without the adapter's own."""
    return {name: getattr(owner, key) for name, owner, key in _slots(model, adapter)}


def parameters_beside(model: nn.Module, adapter: str) -> list[Tensor]:
    """The live tensors of all adapters but one."""
    layers = lora_layers(model)
    kept = ((layer, kind) for layer in layers for kind in layer.adapter_layer_names)
    names = {name for layer, kind in kept for name in getattr(layer, kind, {})}
    others = sorted(names - {adapter, NODE_ADAPTER})
    return [value for name in others for value in adapter_tensors(model, name).values()]


def add_node_adapter(model: nn.Module, trained: str) -> None:
    """A second adapter of the trained one's shape, dtypes and device, all zeros, switched off.

    Changes neither the host's outputs, active adapters, flags nor random state. No dropout: a node
    is one function, whatever mode the host is in.
    """
    adapted = _adapted(model)
    configs = getattr(adapted, "peft_config", {})
    if trained not in configs:
        raise InstallError(f"no config of the adapter {trained!r} in the network's `peft_config`")
    _check(configs[trained])
    config = copy.copy(configs[trained])
    config.lora_dropout, config.init_lora_weights = 0.0, True
    gpus = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    fork = torch.random.fork_rng(devices=[*gpus])  # its init draws numbers
    with adapters_kept(model), fork, warnings.catch_warnings():
        # a second adapter is what we want
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, _injectable(adapted), adapter_name=NODE_ADAPTER)
    configs.pop(NODE_ADAPTER)
    own = adapter_tensors(model, trained)
    for name, owner, key in list(_slots(model, NODE_ADAPTER)):
        delattr(owner, key)
        owner.register_buffer(key, torch.zeros_like(own[name].detach()), persistent=False)


def remove_node_adapter(model: nn.Module) -> None:
    """Delete the node adapter, if there is one."""
    with adapters_kept(model):
        for layer in lora_layers(model):
            layer.delete_adapter(NODE_ADAPTER)


def show_node(model: nn.Module) -> None:
    """The base with the node adapter answers, also where the host had all adapters disabled."""
    for layer in lora_layers(model):
        layer.enable_adapters(True)
        layer.set_adapter([NODE_ADAPTER])
    for tensor in adapter_tensors(model, NODE_ADAPTER).values():
        tensor.requires_grad_(False)  # an embedding's are not spared by `set_adapter`


def show_base(model: nn.Module) -> None:
    """The base alone answers."""
    for layer in lora_layers(model):
        layer.enable_adapters(False)


@contextmanager
def adapters_kept(model: nn.Module) -> Iterator[None]:
    """PEFT's switches also flip `requires_grad`; put adapters and flags back as they were."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    layers = lora_layers(model)
    active = [(layer, list(layer.active_adapters), layer.disable_adapters) for layer in layers]
    try:
        yield
    finally:
        for layer, names, disabled in active:
            layer.set_adapter(names)
            if disabled != layer.disable_adapters:
                layer.enable_adapters(not disabled)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _slots(model: nn.Module, adapter: str) -> Iterator[tuple[str, nn.Module, str]]:
    """(name without the adapter's own, module, attribute) of every tensor of an adapter."""
    for prefix, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        for kind in layer.adapter_layer_names:
            adapters: Any = getattr(layer, kind, {})
            if adapter not in adapters:
                continue
            item, name = adapters[adapter], f"{prefix}.{kind}".lstrip(".")
            if isinstance(item, Tensor):  # embeddings: a dict of tensors
                yield name, adapters, adapter
                continue
            for path, module in item.named_modules(prefix=name):
                parameters, buffers = module.named_parameters, module.named_buffers
                for key, _ in [*parameters(recurse=False), *buffers(recurse=False)]:
                    yield f"{path}.{key}", module, key


def _check(config: Any) -> None:
    for setting, (allowed, why) in _REFUSED.items():
        value = getattr(config, setting, allowed)
        if value != allowed and value:
            raise InstallError(
                f"the trained adapter has {setting}={value!r}, which {why}: make its LoraConfig "
                f"with {setting}={allowed!r}, or give two separate networks"
            )
    init = config.init_lora_weights
    if isinstance(init, str) and init.lower().startswith(_CHANGES_BASE):
        raise InstallError(
            f"the trained adapter has init_lora_weights={init!r}, which changes the base, so the "
            "base alone is not the teacher: make its LoraConfig with init_lora_weights=True"
        )


def _adapted(model: nn.Module) -> nn.Module:
    """The network that PEFT adapted: the model itself, or the one inside it, as of a wrapper."""
    found = (part for part in model.modules() if hasattr(part, "peft_config"))
    return next(found, model)


def _injectable(model: nn.Module) -> nn.Module:
    """A PeftModel holds the network one level down; a network adapted in place is itself."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model
