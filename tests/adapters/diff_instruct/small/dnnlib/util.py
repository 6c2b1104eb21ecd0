"""Attributes as keys, objects by name."""

import importlib
from pathlib import Path


class EasyDict(dict):
    def __getattr__(self, name):
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name, value):
        self[name] = value


def construct_class_by_name(class_name, **kwargs):
    module, name = class_name.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)(**kwargs)


def open_url(address):
    return Path(address).open("rb")
