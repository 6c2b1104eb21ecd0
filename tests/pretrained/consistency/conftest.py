"""Checkpoints that several tests read, written once."""

from pathlib import Path

import pytest

from disback_plugin.lab.smoke.openai import write
from tests.pretrained.consistency.checkpoints import CASES


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny files under the names of released ones, heads of 16."""
    folder = tmp_path_factory.mktemp("released")
    for name, case in (("cd_imagenet64_l2", "imagenet"), ("ct_bedroom256", "lsun")):
        write(folder / f"{name}.pt", CASES[case])
    write(folder / "edm_imagenet64_ema.pt", CASES["imagenet"], seed=5)
    return folder
