"""What makes `--disback` a flag of SwiftBrush's own training script, in words, not upstream text.

Applied by `disback swiftbrush apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from disback_plugin.patching import Checkout
from swiftbrush_patches.features import FEATURES
from swiftbrush_patches.known_tree import COMMIT, KNOWN_TREE
from swiftbrush_patches.repairs import REPAIRS

PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The SwiftBrush checkout at `root`; raises PatchError if it is none."""
    return Checkout(root, f"SwiftBrush (VinAIResearch/SwiftBrush at {COMMIT})", PATCHES, KNOWN_TREE)
