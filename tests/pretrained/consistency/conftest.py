"""Checkpoints that several tests read, written once."""

from pathlib import Path

import pytest

from tests.pretrained.consistency import checkpoints


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny files under the names of released ones, heads of 16."""
    folder = tmp_path_factory.mktemp("released")
    for name, case in (("cd_imagenet64_l2", "imagenet"), ("ct_bedroom256", "lsun")):
        checkpoints.write(folder / f"{name}.pt", checkpoints.CASES[case])
    checkpoints.write(folder / "edm_imagenet64_ema.pt", checkpoints.CASES["imagenet"], seed=5)
    return folder
