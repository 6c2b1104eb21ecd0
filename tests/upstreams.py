"""Checkouts of the projects that the plugin works with, where somebody has put them."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]


def find_checkout(name: str, landmark: str) -> Path | None:
    """The folder `name` in DISBACK_UPSTREAMS or third_party/ that holds `landmark`, or None."""
    folders = [ROOT / "third_party"]
    if "DISBACK_UPSTREAMS" in os.environ:
        folders.insert(0, Path(os.environ["DISBACK_UPSTREAMS"]))
    found = (folder / name for folder in folders)
    return next((folder for folder in found if (folder / landmark).exists()), None)
