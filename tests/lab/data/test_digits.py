"""The digits are the real ones, in the range that the models expect."""

import sys

import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import digits_dataset


def test_all_digits_are_there_with_their_labels() -> None:
    data = digits_dataset()
    assert data.samples.shape == (1797, 1, 8, 8)
    assert (data.name, data.num_classes) == ("digits", 10)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.labels.bincount().tolist() == counts
    assert (data.samples.dtype, data.labels.dtype) == (torch.float32, torch.int64)


def test_pixels_0_to_16_become_exactly_minus_one_to_one() -> None:
    data = digits_dataset()
    expected = [0, 0, 5, 13, 9, 1, 0, 0]  # the first row of the first image, a zero
    assert data.samples[0, 0, 0].tolist() == [pixel / 8 - 1 for pixel in expected]
    assert (data.samples.min().item(), data.samples.max().item()) == (-1.0, 1.0)
    assert data.labels[0].item() == 0


def test_without_scikit_learn_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match="pip install scikit-learn"):
        digits_dataset()
