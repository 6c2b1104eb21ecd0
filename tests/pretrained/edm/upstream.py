"""NVlabs/edm's own networks, where a checkout is present."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TOP_LEVEL = ("training", "torch_utils", "dnnlib")  # names that other checkouts use too


def find_checkout() -> Path | None:
    """edm in the folder DISBACK_UPSTREAMS or in third_party/; None where there is none."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    for folder in folders:
        if (folder / "edm" / "training" / "networks.py").exists():
            return folder / "edm"
    return None


needs_checkout = pytest.mark.skipif(
    find_checkout() is None, reason="no checkout of NVlabs/edm in third_party/ or DISBACK_UPSTREAMS"
)


_modules: dict[str, ModuleType] = {}


@contextmanager
def nvlabs_networks() -> Iterator[ModuleType]:
    """`training.networks` of the checkout; build its networks inside: they look their modules up.

    Outside, these module names belong to nobody, so that another checkout's can be imported.
    """
    checkout = find_checkout()
    assert checkout is not None
    hidden = _take_modules()
    sys.modules.update(_modules)
    sys.path.insert(0, str(checkout))
    try:
        yield importlib.import_module("training.networks")
    finally:
        sys.path.remove(str(checkout))
        _modules.update(_take_modules())
        sys.modules.update(hidden)


def nvlabs_denoiser(class_name: str, init_kwargs: dict[str, Any]) -> Any:
    """NVlabs/edm's module of that class."""
    with nvlabs_networks() as networks:
        return getattr(networks, class_name)(**init_kwargs)


def _take_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in TOP_LEVEL]
    return {name: sys.modules.pop(name) for name in names}
