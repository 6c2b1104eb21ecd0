"""Adapters: how DisBack finds its three roles in a host, registered by name.

Writing one means naming the roles; a host with special needs also overrides `installation`.
Packages of users register through the entry-point group `disback.adapters`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

from torch import nn

from disback_plugin.config import DisBackConfig
from disback_plugin.config_base import nearest
from disback_plugin.errors import AdapterError
from disback_plugin.real_score import InPlace, Installation, SeparateModule

ENTRY_POINT_GROUP = "disback.adapters"


@dataclass(frozen=True)
class Roles:
    """The three networks of score distillation. Teacher and fake score may share one LoRA base."""

    teacher: nn.Module
    fake_score: nn.Module
    student: nn.Module


class Adapter(ABC):
    """Tells DisBack which of a host's networks plays which role."""

    name: ClassVar[str]

    @abstractmethod
    def roles(self, host: Any) -> Roles:
        """The host's networks; wrapped ones (DDP, compile) are fine. AdapterError if one misses."""

    def installation(self, roles: Roles, config: DisBackConfig) -> Installation:
        """How nodes are installed: as configured, else LoRA for a shared base, else in place."""
        kind = config.installation
        if kind is None:
            kind = "lora" if roles.teacher is roles.fake_score else "in-place"
        if kind == "lora":
            from disback_plugin.real_score.lora import LoRAAdapter  # needs peft, so only here

            return LoRAAdapter(roles.fake_score, config.rounding)
        whole = InPlace if kind == "in-place" else SeparateModule
        return whole(roles.teacher, roles.fake_score, config.rounding)


_ADAPTERS: dict[str, type[Adapter]] = {}
AnyAdapter = TypeVar("AnyAdapter", bound=type[Adapter])


def register_adapter(cls: AnyAdapter) -> AnyAdapter:
    """Class decorator: make an adapter available under its `name`; a taken name is an error."""
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        raise AdapterError(f"{cls.__qualname__} has no `name`: give it one, a string")
    if name in _ADAPTERS and _ADAPTERS[name] is not cls:
        raise AdapterError(
            f"adapter {name!r} is already registered by {_ADAPTERS[name].__qualname__}: "
            "choose another name"
        )
    _ADAPTERS[name] = cls
    return cls


def get_adapter(name: str) -> type[Adapter]:
    """The adapter of that name: built in, registered, or from an installed package."""
    if name not in _ADAPTERS:
        _load_entry_points()
    if name not in _ADAPTERS:
        raise AdapterError(f"unknown adapter {name!r}; {nearest(name, list(_ADAPTERS))}")
    return _ADAPTERS[name]


def list_adapters() -> list[str]:
    """Names of all adapters that can be used here."""
    _load_entry_points()
    return sorted(_ADAPTERS)


def _load_entry_points() -> None:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        register_adapter(point.load())
