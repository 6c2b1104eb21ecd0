"""Scikit-learn's handwritten digits: 1,797 real 8x8 images, shipped with the library."""

import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data.dataset import DataSet


def digits_dataset() -> DataSet:
    """All 1,797 images as (1797, 1, 8, 8) float32 in [-1, 1], labels 0..9.

    Raises ConfigError with the command to run where scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError(
            "the digits data needs scikit-learn, which is not installed; run: "
            "pip install scikit-learn"
        ) from None
    pixels, labels = load_digits(return_X_y=True)
    samples = torch.from_numpy(pixels).float().reshape(-1, 1, 8, 8) / 8 - 1  # pixels are 0..16
    return DataSet(
        name="digits", samples=samples, labels=torch.from_numpy(labels).long(), num_classes=10
    )
