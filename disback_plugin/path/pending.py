"""A node that is being written in the background, as its host is told of it."""

from collections.abc import Callable
from typing import Any

from disback_plugin.path.manifest import NodeEntry


class PendingNode:
    """Has every field of a NodeEntry; all but `index` and `step` are waited for when asked for."""

    def __init__(self, index: int, step: int, written: Callable[[], NodeEntry]) -> None:
        self.index, self.step = index, step
        self._written = written

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._written(), name)

    def __repr__(self) -> str:
        return f"PendingNode(index={self.index}, step={self.step})"
