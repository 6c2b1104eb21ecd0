"""One frozen base for all roles: which of its LoRA adapters answers, also where it answers again.

Gradient checkpointing runs parts of a forward pass again while gradients are computed, when another
role may have been asked in between: each part then answers under the adapter of its own forward.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from disback_plugin.diffusion import Denoiser, GuidedNetwork
from disback_plugin.errors import ConfigError
from disback_plugin.lab.config.lora import LoRASettings
from disback_plugin.lab.noise import seed_of, seeded
from disback_plugin.pretrained.bare import bare_module

Factors = dict[str, nn.Module]


class SharedBase:
    """A denoiser whose network has several LoRAs, of which one, or none, answers at a time.

    Alone it is the teacher, with its guidance; an adapter answers to its condition alone. Outside
    of `showing` the adapter that was added last is active, the one that nodes are recorded of.
    Raises ConfigError where the network takes no adapters.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.network = denoiser.requires_grad_(False).eval(), adaptable(denoiser)
        self._guided = [part for part in denoiser.modules() if isinstance(part, GuidedNetwork)]
        self._layers: dict[nn.Module, list[Any]] = {}  # of peft, by the part that they are in
        self._slots: dict[str, dict[str, nn.ModuleDict]] = {}
        self._shown: str | None = None

    def add(self, adapter: str, settings: LoRASettings, seed: int) -> Factors:
        """A new adapter that changes nothing yet, in float32, drawn from `seed`; what trains it.

        Returns its factors: `MODULE.lora_A` and `MODULE.lora_B`, named within the network.
        """
        from peft import LoraConfig

        alpha: Any = settings.alpha  # peft says int, and takes any number
        config = LoraConfig(
            r=settings.rank, lora_alpha=alpha, target_modules=list(settings.targets)
        )
        with seeded(seed_of(seed, 0, f"{adapter}/lora")), warnings.catch_warnings():
            # a second adapter is what we want
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            try:
                self.network.add_adapter(config, adapter)
            except ValueError as error:
                raise ConfigError(f"lora.targets does not fit the teacher: {error}") from None
        self._layers.clear()
        slots = self.slots(adapter)
        for slot in slots.values():
            slot[adapter].float()
        for name, parameter in self.network.named_parameters():  # peft lets the newest train alone
            parameter.requires_grad_(".lora_" in name)
        return {name: slot[adapter] for name, slot in slots.items()}

    def slots(self, adapter: str) -> dict[str, nn.ModuleDict]:
        """Where the factors of an adapter are kept, by their names."""
        if adapter not in self._slots:
            self._slots[adapter] = {
                f"{prefix}.{kind}": getattr(layer, kind)
                for prefix, layer in self.network.named_modules()
                if _is_lora(layer)
                for kind in ("lora_A", "lora_B")
                if adapter in getattr(layer, kind)
            }
        return self._slots[adapter]

    @contextmanager
    def showing(self, adapter: str | None) -> Iterator[None]:
        """That adapter answers, None: the base alone, with the teacher's guidance."""
        scales, before = [part.scale for part in self._guided], self._shown
        self._shown = adapter
        if adapter is not None:
            for part in self._guided:
                part.scale = 1.0
        try:
            with self._switched(self.network, adapter):
                yield
        finally:
            self._shown = before
            for part, scale in zip(self._guided, scales, strict=True):
                part.scale = scale

    def save_memory(self) -> None:
        """Have the network's blocks compute their activations again for the backward pass."""
        self.network.enable_gradient_checkpointing(self._checkpointed)

    def _checkpointed(self, part: nn.Module, *inputs: Any) -> Any:
        adapter = self._shown

        def answer(*inputs: Any) -> Any:
            with self._switched(part, adapter):
                return part(*inputs)

        return checkpoint(answer, *inputs, use_reentrant=False)

    @contextmanager
    def _switched(self, part: nn.Module, adapter: str | None) -> Iterator[None]:
        """An adapter within a part of the network.

        By peft's own attributes: its methods flip `requires_grad` too, and a gradient that is
        computed while its flag is off is lost.
        """
        layers = self._lora_layers(part)
        before = [(layer._active_adapter, layer._disable_adapters) for layer in layers]
        for layer in layers:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                layer._active_adapter = [adapter]
        try:
            yield
        finally:
            for layer, (active, disabled) in zip(layers, before, strict=True):
                layer._active_adapter, layer._disable_adapters = active, disabled

    def _lora_layers(self, part: nn.Module) -> list[Any]:
        if part not in self._layers:
            self._layers[part] = [layer for layer in part.modules() if _is_lora(layer)]
        return self._layers[part]


class SharedRole(nn.Module):
    """An adapter of a shared base as a network of its own: its weights are the adapter's alone.

    ask: what answers while the adapter is shown, such as the base itself. A deep copy, an average,
    has factors of its own on the same base. Without adapter and factors it is the base alone.
    """

    def __init__(
        self, base: SharedBase, adapter: str | None, factors: Factors, ask: nn.Module
    ) -> None:
        super().__init__()
        self.base, self.adapter, self._factors = base, adapter, factors
        self._key = adapter or ""
        self._slots = base.slots(adapter) if adapter else {}
        self._ask: Callable[..., Any] = ask.__call__  # not the module: that is no part of the role
        for name, module in factors.items():
            _hang(self, name, module)

    def forward(self, *inputs: Any) -> Any:
        """What `ask` answers under this role's adapter."""
        with self.base.showing(self.adapter), self._in_place():
            return self._ask(*inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedRole":
        factors = {name: copy.deepcopy(module, memo) for name, module in self._factors.items()}
        twin = SharedRole(self.base, self.adapter, factors, nn.Identity())
        twin._ask = self._ask
        return twin.train(self.training)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """The base's layers have this role's factors under its adapter's name."""
        before = {name: slot[self._key] for name, slot in self._slots.items()}
        away = any(before[name] is not factor for name, factor in self._factors.items())
        try:
            if away:
                self._put(self._factors)
            yield
        finally:
            if away:
                self._put(before)

    def _put(self, factors: Factors) -> None:
        for name, slot in self._slots.items():
            slot[self._key] = factors[name]


def adaptable(denoiser: Denoiser) -> Any:
    """The network of diffusers inside, which takes adapters; ConfigError where there is none."""
    network = bare_module(denoiser)
    if not hasattr(network, "add_adapter"):
        raise ConfigError("'lora' is for teachers that are text models of diffusers")
    return network


def _is_lora(module: nn.Module) -> bool:
    from peft.tuners.lora import LoraLayer

    return isinstance(module, LoraLayer)


def _hang(root: nn.Module, name: str, module: nn.Module) -> None:
    """Make a module part of another under a dotted name."""
    *way, last = name.split(".")
    for part in way:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)
