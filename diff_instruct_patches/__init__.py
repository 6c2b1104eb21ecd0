"""What makes `--disback` a flag of Diff-Instruct's `di_train.py`, in words, not upstream text.

Applied by `disback diff-instruct apply CHECKOUT`; see README.md in this folder.
"""

from pathlib import Path

from diff_instruct_patches.features import FEATURES
from diff_instruct_patches.repairs import REPAIRS
from disback_plugin.patching import Checkout

COMMIT = "0c37389"
# SHA-256 (Unix line ends) of the files of that commit that are patched, or relied on
KNOWN_TREE = {
    "di_train.py": "366759273d4801cab4bac0cd2dce879769280b450f0bfc3c458d1ec469812256",
    "torch_utils/distributed.py": (
        "d16a13aaa7c7bfb3b8067404d616cedafe22783ea4aae72169e41b29071d1a2b"
    ),
    "torch_utils/misc.py": "d1b9ccfa41cbb0e232675d49d1875179cb010dbbd2a021584aa5d1614348ac83",
    "torch_utils/training_stats.py": (
        "0f16df14740b91a040870e8425dce37014142be7f7016e6871fe19a5585a19c6"
    ),
    "training/dataset.py": "f46fe15ecd66206819e416ffca6ea22a06610405d6954ccc0fffc53092ab81c2",
    "training/di_loss.py": "a648a1aa98168adf2cc1e8fe97adaf002dc11f0be5a03ef9f1cab7e34ea5879c",
    "training/di_training_loop.py": (
        "209eca91058077d8f28df0f25b77d210fcc591e4b93a3f1ad8939be9091b036e"
    ),
    "training/networks.py": "530db78590f5bf8a5fc136a054dedca8bc2cc6e6aa12b014ec295ae1ba974c2d",
}
PATCHES = (*REPAIRS, *FEATURES)

__all__ = ["COMMIT", "FEATURES", "KNOWN_TREE", "PATCHES", "REPAIRS", "checkout"]


def checkout(root: Path) -> Checkout:
    """The Diff-Instruct checkout at `root`; raises PatchError if it is none."""
    return Checkout(
        root, f"Diff-Instruct (pkulwj1994/diff_instruct at {COMMIT})", PATCHES, KNOWN_TREE
    )
