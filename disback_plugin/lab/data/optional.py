"""Packages that only some formats need."""

import importlib
from typing import Any

from disback_plugin.errors import DataError


def needed(module: str, purpose: str, extra: str = "data") -> Any:
    """The module; raises DataError with the command to run where its package is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{purpose} needs the package {error.name or module!r}, which is not installed; run: "
            f"pip install 'disback_plugin[{extra}]'"
        ) from None
