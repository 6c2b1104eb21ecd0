"""Reads NVlabs/edm's `.pkl` files, which ask to be executed, without executing anything."""

from disback_plugin.pretrained.edm.pickle_reader.reading import read_edm_pickle
