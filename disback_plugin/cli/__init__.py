"""The console script `disback`."""

from disback_plugin.cli.main import main

__all__ = ["main"]
