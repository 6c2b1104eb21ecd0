"""What makes `--disback` a flag of SwiftBrush's own training script, in words, not upstream text.

Applied by `disback swiftbrush apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from disback_plugin.patching import Checkout
from swiftbrush_patches.features import FEATURES
from swiftbrush_patches.repairs import REPAIRS

COMMIT = "686c231"
# SHA-256 (Unix line ends) of the files of that commit that are patched
KNOWN_TREE = {
    "infer.py": "8ff61063682a0fae722dd41c3647ea9e2be9e4cf0108d326b0bfcb6756888061",
    "prepare.py": "c80c32468ffd3129cef7cb54098745df81054b33a7f46ea64db0b8af26a3863d",
    "train_swiftbrush.py": "f190a866c749471167654881aaaa767a046c54a62958e1b79ba676bc2981cac8",
}
PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The SwiftBrush checkout at `root`; raises PatchError if it is none."""
    return Checkout(root, f"SwiftBrush (VinAIResearch/SwiftBrush at {COMMIT})", PATCHES, KNOWN_TREE)
