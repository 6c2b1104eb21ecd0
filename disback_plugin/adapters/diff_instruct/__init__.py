"""Diff-Instruct (pkulwj1994/diff_instruct): what its patched scripts call."""

from disback_plugin.adapters.diff_instruct.adapter import DiffInstructAdapter
