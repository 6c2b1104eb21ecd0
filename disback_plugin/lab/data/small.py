"""The small experiments' own data: scikit-learn's digits, and E.1's 2-D Gaussian mixture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from disback_plugin.diffusion import GaussianMixtureDenoiser
from disback_plugin.errors import ConfigError
from disback_plugin.lab.data.dataset import DataSet

TRIES = 10_000


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

    @property
    def num_components(self) -> int:
        """K."""
        return len(self.weights)

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
        name="gaussians", samples=samples, labels=component, num_classes=mixture.num_components
    )
