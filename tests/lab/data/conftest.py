"""Image and latent data sets on disk."""

from pathlib import Path

import pytest

from disback_plugin.lab.data import write_image_lmdb, write_latent_lmdb
from tests.lab.data.lmdb_folders import IMAGES, LABELS, LATENTS, NUM, PROMPTS


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    assert write_image_lmdb(folder, zip(IMAGES, LABELS, strict=True)) == NUM
    return folder


@pytest.fixture
def latents(tmp_path: Path) -> Path:
    folder = tmp_path / "latents"
    assert write_latent_lmdb(folder, zip(LATENTS, PROMPTS, strict=True)) == NUM
    return folder
