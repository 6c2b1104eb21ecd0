"""The quick sliced Wasserstein distance equals the exact one."""

import math

import pytest
import torch

from disback_plugin.lab.metrics import SlicedWasserstein, sliced_wasserstein


def test_the_quick_distance_is_the_exact_one_for_sets_of_one_size() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(500, 3, generator=generator)
    quick = SlicedWasserstein(data)
    for shift in (0.0, 0.1, 5.0):
        samples = 1.5 * torch.randn(500, 3, generator=generator) + shift
        assert quick(samples) == pytest.approx(sliced_wasserstein(samples, data), rel=1e-5)
    assert quick(data) == pytest.approx(0.0, abs=1e-6)


def test_samples_that_are_not_finite_are_infinitely_far() -> None:
    data = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    assert SlicedWasserstein(data)(data * float("nan")) == math.inf
