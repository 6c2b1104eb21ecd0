"""Data to train on: what is asked of it, and samples held in memory with their labels."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from disback_plugin.errors import ConfigError

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


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """samples (N, *data) float32, labels (N,) int64 in 0..num_classes-1, or None with 0 classes."""

    name: str
    samples: Tensor
    labels: Tensor | None
    num_classes: int

    def __post_init__(self) -> None:
        if len(self.samples) == 0:
            raise ConfigError(f"the data set {self.name!r} has no samples")
        if (self.labels is None) != (self.num_classes == 0):
            raise ConfigError(
                f"the data set {self.name!r} needs labels and num_classes, or neither; it has "
                f"num_classes={self.num_classes} and labels {self.labels is not None}"
            )
        if self.labels is not None and self.labels.shape != self.samples.shape[:1]:
            raise ConfigError(
                f"the data set {self.name!r} has {len(self.samples)} samples but labels of shape "
                f"{tuple(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def data_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.samples.shape[1:])

    def batch(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """`num` samples drawn with replacement and their labels; a CPU generator, no global RNG."""
        index = torch.randint(len(self), (num,), generator=generator).to(self.samples.device)
        return self.samples[index], None if self.labels is None else self.labels[index]

    def to(self, device: torch.device | str) -> "DataSet":
        """The same data on `device`."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, samples=self.samples.to(device), labels=labels)


def mirror_half(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images (B, ..., W), each mirrored left to right with probability one half; CPU generator."""
    draw = torch.rand(len(images), generator=generator).to(images.device)
    chosen = (draw < 0.5).reshape(-1, *[1] * (images.ndim - 1))
    return torch.where(chosen, images.flip(-1), images)
