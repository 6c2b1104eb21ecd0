"""FastGen (NVlabs/FastGen): a callback of its trainer, `callback.DisBackCallback`."""

from disback_plugin.adapters.fastgen.adapter import FastGenAdapter
