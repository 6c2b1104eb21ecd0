"""DMD2's image and latent data sets, as sources of training batches."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import DataError, count
from disback_plugin.lab.data.dataset import DataSet
from disback_plugin.lab.data.lmdb_reader import LMDBReader


class _Rows:
    """An array of an LMDB whose first and last row are there and of the right size."""

    def __init__(self, folder: str | Path, array: str) -> None:
        self.name = str(folder)
        self._reader, self._array = LMDBReader(folder), array
        shape = self._reader.shape(array)
        if shape is None:
            raise DataError(f"{folder} holds no {array}: it has no {array}_shape")
        self._len, self.data_shape = shape[0], shape[1:]
        self._reader.rows(array, self.data_shape, (0, len(self) - 1))

    def __len__(self) -> int:
        return self._len

    def _draw(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(self), (num,), generator=generator)
        rows = self._reader.rows(self._array, self.data_shape, index.tolist())
        return index, torch.from_numpy(rows)


class ImageLMDB(_Rows):
    """Images (N, C, H, W) uint8 and, where there are any, class labels; see `LMDBReader`.

    `num_classes` is the largest label + 1 unless given: a subset may lack the last classes.
    """

    def __init__(self, folder: str | Path, num_classes: int | None = None) -> None:
        super().__init__(folder, "images")
        if len(self.data_shape) != 3:
            raise DataError(f"{folder}: images have shape {self.data_shape}, not (C, H, W)")
        self._num_classes = num_classes
        shape = self._reader.shape("labels")
        self._labelled = shape is not None
        # DMD2 writes (N,) and reads (N, 1) as well
        if shape is not None and shape not in ((len(self),), (len(self), 1)):
            raise DataError(f"{folder}: {count(len(self), 'image')}, but labels of shape {shape}")
        if num_classes is not None and not self._labelled:
            raise DataError(f"{folder} has no labels, but num_classes={num_classes}")

    @cached_property
    def labels(self) -> Tensor | None:
        """(N,) int64, or None; read once, which takes a second a million."""
        if not self._labelled:
            return None
        labels = torch.from_numpy(self._reader.column("labels", len(self)))
        limit = self._num_classes or int(labels.max()) + 1
        if labels.min() < 0 or labels.max() >= limit:
            raise DataError(
                f"{self.name}: labels are {labels.min()}..{labels.max()}, not 0..{limit - 1}"
            )
        return labels

    @property
    def num_classes(self) -> int:
        """0 without labels."""
        return self._num_classes or (0 if self.labels is None else int(self.labels.max()) + 1)

    def batch(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """`num` images (num, C, H, W) float32 in [-1, 1] drawn with replacement, their labels."""
        index, images = self._draw(num, generator)
        labels = None if self.labels is None else self.labels[index]
        return _scaled(images), labels

    def load(self) -> DataSet:
        """All images in memory as float32, 12 KB for one of 32x32 pixels."""
        rows = self._reader.rows(self._array, self.data_shape, range(len(self)))
        return DataSet(
            name=self.name,
            samples=_scaled(torch.from_numpy(rows)),
            labels=self.labels,
            num_classes=self.num_classes,
        )


def _scaled(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


class LatentLMDB(_Rows):
    """VAE latents (N, C, H, W) float16, scaled by the VAE's factor, each with its prompt."""

    num_classes = 0

    def __init__(self, folder: str | Path) -> None:
        super().__init__(folder, "latents")
        self.prompts((0, len(self) - 1))

    def prompts(self, index: Sequence[int]) -> list[str]:
        """The prompts of some rows."""
        return self._reader.texts("prompts", index)

    def batch(self, num: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """`num` latents (num, C, H, W) float32 drawn with replacement, and their prompts."""
        index, latents = self._draw(num, generator)
        return latents.float(), self.prompts(index.tolist())
