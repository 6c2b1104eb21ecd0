"""Streamed statistics are those of all rows at once, and hold no more than a piece."""

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from disback_plugin.errors import DataError
from disback_plugin.lab.evaluation.statistics import Moments, fit_stream, splits

CPU = torch.device("cpu")


def rows(num: int = 60, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, width, generator=generator) * 3 + 7


def test_mean_and_covariance_are_numpys_however_the_rows_come() -> None:
    whole = rows().double().numpy()
    for sizes in (1, 7, 60):
        fit, num = fit_stream(rows().split(sizes), CPU)
        assert num == 60
        assert np.allclose(fit.mean, whole.mean(0), rtol=1e-12)
        assert np.allclose(fit.covariance, np.cov(whole, rowvar=False), rtol=1e-11)


def test_sums_are_in_float64() -> None:
    """A thousand features of 4097: their squares need more digits than float32 has."""
    fit, _ = fit_stream([torch.tensor([[4096.0], [4098.0]])] * 500, CPU)
    assert float(fit.mean) == 4097.0
    assert float(fit.covariance) == pytest.approx(1000 / 999, rel=1e-9)


def test_no_more_than_one_piece_is_held() -> None:
    made: list[weakref.ref[Tensor]] = []

    def pieces() -> Iterator[Tensor]:
        for _ in range(6):
            assert sum(piece() is not None for piece in made) <= 1
            piece = rows()
            made.append(weakref.ref(piece))
            yield piece
            del piece

    assert fit_stream(pieces(), CPU)[1] == 360


def test_one_image_has_no_covariance() -> None:
    moments = Moments()
    moments.add(rows(1))
    with pytest.raises(DataError, match="at least 2 images"):
        moments.fit()


def test_splits_are_the_same_rows_in_order() -> None:
    for size in (1, 10, 25, 100):
        found = list(splits(rows().split(7), size))
        assert torch.equal(torch.cat(found), rows())
        assert {len(part) for part in found[:-1]} <= {size}
        assert len(found[-1]) == (60 % size or min(size, 60))
