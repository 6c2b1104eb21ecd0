"""Adapters that come with the package; importing this registers them."""

from disback_plugin.adapters.generic import GenericAdapter

__all__ = ["GenericAdapter"]
