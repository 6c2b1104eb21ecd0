"""Adapters: how DisBack finds its three roles in a host, registered by name.

Writing one means naming the roles; a host with special needs also overrides `installation`.
Packages of users register through the entry-point group `disback.adapters`.
"""

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from inspect import isabstract
from typing import Any, ClassVar, NamedTuple, TypeVar

from torch import Tensor, nn

from disback_plugin.config import DisBackConfig, InstallationKind
from disback_plugin.config_base import nearest
from disback_plugin.errors import AdapterError
from disback_plugin.measure import Measure
from disback_plugin.real_score import InPlace, Installation, SeparateModule
from disback_plugin.real_score.installation import is_fully_sharded, unwrap
from disback_plugin.real_score.weights import is_plain

logger = logging.getLogger("disback")
ENTRY_POINT_GROUP = "disback.adapters"
BUILT_IN = "disback_plugin.adapters"  # importing it registers those that come with us


@dataclass(frozen=True)
class Roles:
    """The three networks of score distillation. Teacher and fake score may share one LoRA base.

    The student may then be another adapter of that base: a module whose parameters are the
    adapter's alone.
    """

    teacher: nn.Module
    fake_score: nn.Module
    student: nn.Module


class Places(NamedTuple):
    """Where an adapter finds the roles in its host, in words."""

    teacher: str
    fake_score: str
    student: str


def refuse_shared_weights(roles: Roles) -> None:
    """Raise AdapterError where a role misses, or two share parameters: a node would be in both.

    Teacher and fake score may be one module with a LoRA adapter, the student another of its
    adapters.
    """
    if not isinstance(roles, Roles):
        raise AdapterError(
            "the adapter's roles() must return Roles(teacher=..., fake_score=..., student=...) "
            f"(seen: {type(roles).__name__})"
        )
    for field in fields(roles):
        if not isinstance(found := getattr(roles, field.name), nn.Module):
            raise AdapterError(
                f"the adapter found no {field.name}: roles() must give a torch.nn.Module for each "
                f"role (seen: {type(found).__name__})"
            )
    pairs = [("student", "teacher"), ("student", "fake_score")]
    if roles.teacher is not roles.fake_score:
        pairs.append(("teacher", "fake_score"))
    for first, second in pairs:
        shared = _storage(getattr(roles, first)) & _storage(getattr(roles, second))
        if shared and roles.teacher is roles.fake_score:
            shared -= _of_other_adapters(roles.fake_score)
        if shared:
            raise AdapterError(
                f"{first} and {second} share {len(shared)} parameters: give each role its own copy"
            )


def _storage(module: nn.Module) -> set[int]:
    return _addresses(module.parameters())


def _addresses(values: Iterable[Tensor]) -> set[int]:
    return {value.data_ptr() if is_plain(value) else id(value) for value in values} - {0}


def _of_other_adapters(model: nn.Module) -> set[int]:
    """Of a base with LoRA layers: what is in no node, for it is not the active adapter's."""
    if not any(hasattr(part, "lora_A") for part in model.modules()):
        return set()
    from disback_plugin.real_score.lora_layers import lora_layers, parameters_beside, single_adapter

    model = unwrap(model)
    return _addresses(parameters_beside(model, single_adapter(lora_layers(model))))


class Adapter(ABC):
    """Tells DisBack which of a host's networks plays which role.

    installations: what its host can take, the usual one first. `host` and `found_at` are for people
    (`disback adapters`): what it attaches to, and where each role is found there.
    """

    name: ClassVar[str]
    host: ClassVar[str] = ""
    found_at: ClassVar[Places | None] = None
    installations: ClassVar[tuple[InstallationKind, ...]] = ("in-place", "separate", "lora")

    @abstractmethod
    def roles(self, host: Any) -> Roles:
        """The host's networks; wrapped ones (DDP, compile) are fine. AdapterError if one misses."""

    def installation(self, roles: Roles, config: DisBackConfig) -> Installation:
        """How nodes are installed (see `installation_kind`)."""
        kind = self.installation_kind(roles, config)
        if kind == "lora":
            from disback_plugin.real_score.lora import LoRAAdapter  # needs peft, so only here

            return LoRAAdapter(roles.fake_score, config.rounding)
        if kind == "in-place" and any(map(is_fully_sharded, (roles.teacher, roles.fake_score))):
            from disback_plugin.real_score.dtensor import DTensorInPlace  # seldom needed

            return DTensorInPlace(roles.teacher, roles.fake_score, config.rounding)
        whole = InPlace if kind == "in-place" else SeparateModule
        return whole(roles.teacher, roles.fake_score, config.rounding)

    def measure(self, host: Any) -> Measure | None:
        """The host's measure (see measure.py), for an adapter that can ask for samples itself."""
        return None

    def installation_kind(self, roles: Roles, config: DisBackConfig) -> InstallationKind:
        """As configured, else LoRA for a shared base, else the usual one; AdapterError."""
        kind = config.installation
        if kind is None:
            shared = roles.teacher is roles.fake_score and "lora" in self.installations
            return "lora" if shared else self.installations[0]
        if kind not in self.installations:
            allowed = " or ".join(repr(own) for own in self.installations)
            raise AdapterError(f"{self.name} installs nodes {allowed} only (asked: {kind!r})")
        return kind


_ADAPTERS: dict[str, type[Adapter]] = {}
_PACKAGES: dict[str, str] = {}  # of adapters from entry points
AnyAdapter = TypeVar("AnyAdapter", bound=type[Adapter])


def register_adapter(cls: AnyAdapter) -> AnyAdapter:
    """Class decorator: make an adapter available under its `name`; a taken name is an error."""
    if not (isinstance(cls, type) and issubclass(cls, Adapter)):
        raise AdapterError(f"{cls!r} is no class derived from disback_plugin.adapter.Adapter")
    name = getattr(cls, "name", None)
    if not (isinstance(name, str) and name):
        raise AdapterError(f"{cls.__qualname__} has no `name`: give it one, a string")
    if isabstract(cls):
        raise AdapterError(f"adapter {name!r} ({cls.__qualname__}) has no method roles(host)")
    if not cls.__module__.startswith(f"{BUILT_IN}."):
        importlib.import_module(BUILT_IN)  # their names are taken
    if name in _ADAPTERS and _ADAPTERS[name] is not cls:
        raise AdapterError(
            f"adapter {name!r} is already registered by {_ADAPTERS[name].__qualname__}: "
            "choose another name"
        )
    _ADAPTERS[name] = cls
    return cls


def get_adapter(name: str) -> type[Adapter]:
    """The adapter of that name: built in, registered, or from an installed package."""
    importlib.import_module(BUILT_IN)
    if name not in _ADAPTERS:
        _load_entry_points()
    if name not in _ADAPTERS:
        raise AdapterError(f"unknown adapter {name!r}; {nearest(name, list(_ADAPTERS))}")
    return _ADAPTERS[name]


def list_adapters() -> list[str]:
    """Names of all adapters that can be used here."""
    importlib.import_module(BUILT_IN)
    _load_entry_points()
    return sorted(_ADAPTERS)


def origin(name: str) -> str:
    """Where a registered adapter comes from: built in, a package with its version, or a module."""
    module = _ADAPTERS[name].__module__
    return _PACKAGES.get(name, "built in" if module.startswith("disback_plugin.") else module)


def _load_entry_points() -> None:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            cls = register_adapter(point.load())
        except (Exception, SystemExit) as error:  # somebody else's: it must not take ours down
            why = f"it exits ({error})" if isinstance(error, SystemExit) else error
            logger.warning("adapter %r of %s cannot be used: %s", point.name, point.value, why)
            continue
        if point.dist is not None:
            _PACKAGES[cls.name] = f"{point.dist.name} {point.dist.version}"
