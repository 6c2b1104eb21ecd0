"""What makes `--disback` a flag of Diff-Instruct's `di_train.py`, in words, not upstream text.

Applied by `disback diff-instruct apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from diff_instruct_patches.features import FEATURES
from diff_instruct_patches.known_tree import COMMIT, KNOWN_TREE
from diff_instruct_patches.repairs import REPAIRS
from disback_plugin.patching import Checkout

PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The Diff-Instruct checkout at `root`; raises PatchError if it is none."""
    return Checkout(
        root, f"Diff-Instruct (pkulwj1994/diff_instruct at {COMMIT})", PATCHES, KNOWN_TREE
    )
