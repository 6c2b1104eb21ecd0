"""What training asks of a data set, be it in memory or on disk."""

from typing import Protocol, TypeVar

import torch
from torch import Tensor

Cond = TypeVar("Cond", covariant=True)


class SampleSource(Protocol[Cond]):
    """Samples with what they are conditioned on: labels (a Tensor or None) or prompts (list[str]).

    `DataSet` and `ImageLMDB` are SampleSource[Tensor | None], `LatentLMDB` is
    SampleSource[list[str]].
    """

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int:
        """0 where there are no labels."""

    @property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""

    def __len__(self) -> int: ...

    def batch(self, num: int, generator: torch.Generator) -> tuple[Tensor, Cond]:
        """`num` samples (num, *data_shape) float32 drawn with replacement by a CPU generator."""
