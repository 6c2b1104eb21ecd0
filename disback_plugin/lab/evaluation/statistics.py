"""Mean and covariance of features that stream by: sums in float64, as EDM's fid.py keeps them."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from disback_plugin.errors import DataError
from disback_plugin.lab.metrics import GaussianFit


class Moments:
    """Sums of (n, d) features; memory: d * d numbers, however many rows come."""

    def __init__(self) -> None:
        self.num = 0
        self._total = torch.zeros(0, dtype=torch.float64)
        self._products = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Rows (n, d) of any float dtype."""
        rows = features.double()
        if self.num == 0:
            width = rows.shape[1]
            self._total = torch.zeros(width, dtype=torch.float64, device=rows.device)
            self._products = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
        self._total += rows.sum(0)
        self._products.addmm_(rows.T, rows)
        self.num += len(rows)

    def fit(self) -> GaussianFit:
        """Mean and the covariance over N - 1, on the CPU; DataError for fewer than two rows."""
        if self.num < 2:
            raise DataError(f"statistics need at least 2 images (seen: {self.num})")
        mean = self._total / self.num
        covariance = (self._products - self.num * mean.outer(mean)) / (self.num - 1)
        return GaussianFit(mean.cpu(), covariance.cpu())


def fit_stream(pieces: Iterable[Tensor], device: torch.device) -> tuple[GaussianFit, int]:
    """The fit of rows that come in pieces, and how many there were."""
    moments = Moments()
    for piece in pieces:
        moments.add(piece.to(device))
    return moments.fit(), moments.num


def splits(pieces: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """The same rows in parts of `size`, the last one perhaps smaller."""
    waiting: list[Tensor] = []
    num = 0
    for piece in pieces:
        while len(piece):
            part, piece = piece[: size - num], piece[size - num :]
            waiting.append(part)
            num += len(part)
            if num == size:
                yield torch.cat(waiting)
                waiting, num = [], 0
    if waiting:
        yield torch.cat(waiting)
