"""DisBack for MyTrainer (my_trainer.py stands in for your own trainer's module)."""

from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles
from disback_plugin.errors import AdapterError


class MyAdapter(Adapter):
    """Finds the roles in a trainer; nodes are copied into its frozen teacher, the default."""

    name = "my-method"
    host = "MyTrainer"
    found_at = Places("trainer.pretrained", "trainer.critic", "trainer.generator")

    def roles(self, host: Any) -> Roles:
        for name in ("pretrained", "critic", "generator"):
            if not isinstance(getattr(host, name, None), nn.Module):
                raise AdapterError(f"{type(host).__name__} has no network {name!r}")
        return Roles(teacher=host.pretrained, fake_score=host.critic, student=host.generator)
