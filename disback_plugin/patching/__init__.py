"""Structural patches of a host's own files: found by shape, all or none, reverted exactly."""

from disback_plugin.patching.checkout import Checkout, PatchState
from disback_plugin.patching.edits import (
    AddKeyword,
    AddParameter,
    AddToDict,
    AppendTo,
    Decorate,
    Edit,
    Guard,
    Insert,
    NarrowIf,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
)
from disback_plugin.patching.engine import (
    AnchorError,
    Patch,
    PatchError,
    apply_patches,
    feature,
    repair,
)
from disback_plugin.patching.shapes import Assigns, Calls, Imports, Increases, Loops, Returns
