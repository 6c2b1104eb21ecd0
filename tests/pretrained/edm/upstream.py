"""NVlabs/edm's own networks, where a checkout is present."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from tests.upstreams import find_checkout

CHECKOUT = find_checkout("edm", "training/networks.py")
TOP_LEVEL = ("training", "torch_utils", "dnnlib")  # names that other checkouts use too


needs_checkout = pytest.mark.skipif(
    CHECKOUT is None, reason="no checkout of NVlabs/edm in third_party/ or DISBACK_UPSTREAMS"
)


_modules: dict[str, ModuleType] = {}


@contextmanager
def nvlabs_networks() -> Iterator[ModuleType]:
    """`training.networks` of the checkout; build its networks inside: they look their modules up.

    Outside, these module names belong to nobody, so that another checkout's can be imported.
    """
    assert CHECKOUT is not None
    hidden = _take_modules()
    sys.modules.update(_modules)
    sys.path.insert(0, str(CHECKOUT))
    try:
        yield importlib.import_module("training.networks")
    finally:
        sys.path.remove(str(CHECKOUT))
        _modules.update(_take_modules())
        sys.modules.update(hidden)


def nvlabs_denoiser(class_name: str, init_kwargs: dict[str, Any]) -> Any:
    """NVlabs/edm's module of that class."""
    with nvlabs_networks() as networks:
        return getattr(networks, class_name)(**init_kwargs)


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in TOP_LEVEL]
    return {name: sys.modules.pop(name) for name in names}
