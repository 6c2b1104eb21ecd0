"""DMD2 (tianweiy/DMD2): what its patched scripts call."""

from disback_plugin.adapters.dmd2.adapter import DMD2EDMAdapter, DMD2SDAdapter
