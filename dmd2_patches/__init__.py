"""What makes `--disback` a flag of DMD2's own training scripts, in words, not upstream text.

Applied by `disback dmd2 apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from disback_plugin.patching import Checkout
from dmd2_patches.features import FEATURES
from dmd2_patches.known_tree import COMMIT, KNOWN_TREE
from dmd2_patches.repairs import REPAIRS

PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The DMD2 checkout at `root`; raises PatchError if it is none."""
    return Checkout(root, f"DMD2 (tianweiy/DMD2 at {COMMIT})", PATCHES, KNOWN_TREE)
