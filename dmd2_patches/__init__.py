"""What makes `--disback` a flag of DMD2's own training scripts, in words, not upstream text.

Applied by `disback dmd2 apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from disback_plugin.patching import Checkout
from dmd2_patches.features import FEATURES
from dmd2_patches.repairs import REPAIRS

COMMIT = "8d8fa55"
# SHA-256 (Unix line ends) of files of that commit: those that are patched
KNOWN_TREE = {
    "main/edm/train_edm.py": "09b14a7c2c76f94312606bf79501e44ad49379b291a6cfc28f28008da6c12dda",
    "main/sd_guidance.py": "5e5ec5cb2978f40309d6a89d7e52255d508a7707345291284c2d4969918851fd",
    "main/sd_unified_model.py": "caaf04746dbc0f79b6ca9de9dc37cb5fcae99d0311d2ee2e17eeb5dbea8a8e36",
    "main/train_sd.py": "55a8fca2e4fbf2f36c0c3a205f6fa18e92bfa7be06c8249561ce7780a4c68f7f",
    "main/utils.py": "ccac4f287123a93b7d0246b95b0c21da2d031bd7bd06159b0d4422f7ffb128e8",
    # not patched, but their sizes, names and calls are relied on
    "main/edm/edm_guidance.py": "d10439669de75d8be2fe4a93fcbf9d0f82e68dce2a094c4cb6f0aaa7092e8bcb",
    "main/edm/edm_network.py": "2c03ab87377224bf916f897131d6e43cc400c10918543c4cd6f9b1fd618b184f",
    "main/edm/edm_unified_model.py": "7406991f17cd3e01edbc1154abc89ba4dc8c448e845aee0d76c04969930bfca4",  # noqa: E501
    "main/sd_image_dataset.py": "1636720f2ae47afd7519c017703911a127e99c8ade31c8f0db5225e992a4abbe",
    "main/sd_unet_forward.py": "c78803275026c1056f62f3aa1e9d379dda9ed0160cc26bb6e13001fecb118483",
}
PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The DMD2 checkout at `root`; raises PatchError if it is none."""
    return Checkout(root, f"DMD2 (tianweiy/DMD2 at {COMMIT})", PATCHES, KNOWN_TREE)
