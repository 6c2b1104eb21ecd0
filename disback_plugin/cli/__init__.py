"""The console script `disback`."""

from disback_plugin.cli.main import main
