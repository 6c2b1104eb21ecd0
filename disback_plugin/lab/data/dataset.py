"""Data to train on: what is asked of it, what is held in memory, and the small experiments' own."""

from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from disback_plugin.diffusion import GaussianMixtureDenoiser
from disback_plugin.errors import ConfigError

Cond = TypeVar("Cond", covariant=True)
TRIES = 10_000  # of the means of a random mixture


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


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianMixture:
    """sum_k w_k N(means_k, std^2 I): weights (K,) summing to 1, means (K, dim), one std."""

    weights: Tensor
    means: Tensor
    std: float

    def sample(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`num` exact samples (num, dim) and the component (num,) int64 that each came from."""
        component = torch.multinomial(self.weights, num, replacement=True, generator=generator)
        noise = torch.randn(num, self.means.shape[1], generator=generator)
        return self.means[component] + self.std * noise, component

    def denoiser(self) -> GaussianMixtureDenoiser:
        """The exact teacher E[x0 | x]; its cond is the component."""
        return GaussianMixtureDenoiser(self.weights, self.means, self.std)


def random_mixture(
    num_components: int = 8, std: float = 0.08, extent: float = 1.0, seed: int = 0
) -> GaussianMixture:
    """Equal weights, means uniform in [-extent, extent]^2 and at least 5 std apart (E.1).

    Closer modes could not be told apart in a figure or counted. Raises ConfigError where they do
    not fit.
    """
    if num_components < 1 or not std > 0 or not extent > 0:
        raise ConfigError(
            "a mixture needs num_components >= 1, std > 0 and extent > 0, not "
            f"{num_components}, {std} and {extent}"
        )
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(0, 2)
    for _ in range(TRIES):
        if len(means) == num_components:
            weights = torch.full((num_components,), 1 / num_components)
            return GaussianMixture(weights=weights, means=means, std=std)
        mean = extent * (2 * torch.rand(1, 2, generator=generator) - 1)
        if bool(((means - mean).norm(dim=1) >= 5 * std).all()):
            means = torch.cat([means, mean])
    raise ConfigError(
        f"{num_components} modes of std {std} do not fit 5 std apart in [-{extent}, {extent}]^2; "
        "use fewer components, a smaller std or a larger extent"
    )


def mixture_dataset(mixture: GaussianMixture, num: int = 20_000, seed: int = 0) -> DataSet:
    """`num` samples of the mixture, labelled by component."""
    samples, component = mixture.sample(num, torch.Generator().manual_seed(seed))
    return DataSet(
        name="gaussians", samples=samples, labels=component, num_classes=len(mixture.weights)
    )
