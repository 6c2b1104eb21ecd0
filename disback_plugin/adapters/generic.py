"""Any training loop: the caller names the three networks."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.config_base import nearest
from disback_plugin.errors import AdapterError

_ROLES = ("teacher", "fake_score", "student")


@register_adapter
class GenericAdapter(Adapter):
    """`DisBack.attach(roles=dict(teacher=..., fake_score=..., student=...), config=...)`."""

    name = "generic"
    host = "your own loop"
    found_at = Places(*(f"roles[{role!r}]" for role in _ROLES))

    def roles(self, host: Any) -> Roles:
        if not isinstance(host, Mapping):
            raise AdapterError(
                "the generic adapter takes roles=dict(teacher=..., fake_score=..., student=...) "
                f"(seen: {type(host).__name__})"
            )
        for role in host:
            if role not in _ROLES:
                raise AdapterError(f"unknown role {role!r}; {nearest(str(role), list(_ROLES))}")
        for role in _ROLES:
            if not isinstance(host.get(role), nn.Module):
                seen = type(host[role]).__name__ if role in host else "nothing"
                raise AdapterError(f"role {role!r} must be a torch.nn.Module (seen: {seen})")
        if host["student"] is host["fake_score"] or host["student"] is host["teacher"]:
            raise AdapterError("the student must be a network of its own: it is another role's")
        return Roles(host["teacher"], host["fake_score"], host["student"])
