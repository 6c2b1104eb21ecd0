"""Adapters that come with the package; importing this registers them."""

from disback_plugin.adapters.dmd2 import DMD2EDMAdapter, DMD2SDAdapter
from disback_plugin.adapters.generic import GenericAdapter

__all__ = ["DMD2EDMAdapter", "DMD2SDAdapter", "GenericAdapter"]
