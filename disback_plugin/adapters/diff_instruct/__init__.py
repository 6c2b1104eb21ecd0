"""Diff-Instruct (pkulwj1994/diff_instruct): `net` is real score, `Sg` fake score, `G` student."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from disback_plugin.adapter import Adapter, Places, Roles, register_adapter
from disback_plugin.adapters.diff_instruct.measure import Draws, measure_of
from disback_plugin.errors import AdapterError
from disback_plugin.measure import Measure


@dataclass(frozen=True)
class DiffInstructHost:
    """The networks of its training loop, under its names, once the teacher's pickle is loaded.

    draws: what the loop draws from, for the measure.
    """

    net: nn.Module
    Sg: nn.Module
    G: nn.Module
    draws: Draws | None = None


@register_adapter
class DiffInstructAdapter(Adapter):
    """`di_train.py`: EDM networks. Its losses call `net` itself, so nodes go in place."""

    name = "diff-instruct"
    host = "Diff-Instruct, di_train.py"
    found_at = Places("net", "Sg", "G")
    installations = ("in-place",)

    def roles(self, host: Any) -> Roles:
        if not isinstance(host, DiffInstructHost):
            raise AdapterError(
                f"{self.name} attaches to a DiffInstructHost (seen: {type(host).__name__})"
            )
        return Roles(host.net, host.Sg, host.G)

    def measure(self, host: Any) -> Measure | None:
        return host.draws and measure_of(host.net, host.Sg, host.G, host.draws)
