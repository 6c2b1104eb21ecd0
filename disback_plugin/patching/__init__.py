"""Structural patches of a host's own files: found by shape, all or none, reverted exactly."""

from disback_plugin.patching.checkout import Checkout, PatchState
from disback_plugin.patching.edits import (
    AddKeyword,
    AddToDict,
    AppendTo,
    Edit,
    Guard,
    Insert,
    NarrowIf,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
)
from disback_plugin.patching.engine import AnchorError, Patch, PatchError, apply_patches
from disback_plugin.patching.shapes import Assigns, Calls, Imports, Returns

__all__ = [
    "AddKeyword",
    "AddToDict",
    "AnchorError",
    "AppendTo",
    "Assigns",
    "Calls",
    "Checkout",
    "Edit",
    "Guard",
    "Imports",
    "Insert",
    "NarrowIf",
    "Patch",
    "PatchError",
    "PatchState",
    "ReplaceCall",
    "ReplaceDictValue",
    "ReplaceKeyword",
    "Returns",
    "apply_patches",
]
