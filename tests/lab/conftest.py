"""A few images in an LMDB, and the digit classifier, which takes seconds to train: once for all."""

from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.lab.data import write_image_lmdb
from disback_plugin.lab.metrics import DigitClassifier, digit_classifier


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifier")


@pytest.fixture(scope="session")
def classifier(cache: Path) -> DigitClassifier:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad():  # an evaluation may well ask for it first
        trained = digit_classifier(cache)
    assert torch.equal(before, torch.get_rng_state()), "training moved the global RNG"
    return trained


@pytest.fixture(scope="session")
def lmdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images of 8x8, dark on the left, in two classes."""
    folder = tmp_path_factory.mktemp("images") / "lmdb"
    images = np.random.default_rng(0).integers(0, 128, (40, 3, 8, 8), dtype=np.uint8)
    images[..., 4:] += 100
    write_image_lmdb(folder, ((image, row % 2) for row, image in enumerate(images)))
    return folder
