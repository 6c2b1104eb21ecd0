"""The 2-D mixture is seeded, has modes that can be told apart, and samples what it says."""

import pytest
import torch

from disback_plugin.diffusion import diffuse
from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import GaussianMixture, mixture_dataset, random_mixture


def test_the_modes_follow_the_seed_and_leave_the_global_rng_alone() -> None:
    state = torch.get_rng_state()
    assert torch.equal(random_mixture(seed=3).means, random_mixture(seed=3).means)
    assert not torch.equal(random_mixture(seed=3).means, random_mixture(seed=4).means)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(5))
def test_modes_lie_in_the_square_and_five_stds_apart(seed: int) -> None:
    mixture = random_mixture(num_components=8, std=0.08, extent=1.0, seed=seed)
    assert mixture.means.shape == (8, 2)
    assert mixture.means.abs().max() <= 1
    assert torch.pdist(mixture.means).min() >= 0.4
    assert mixture.weights.tolist() == [0.125] * 8


def test_samples_have_the_weight_mean_and_std_of_their_component() -> None:
    mixture = GaussianMixture(
        weights=torch.tensor([0.8, 0.2]), means=torch.tensor([[0.0, 1.0], [-1.0, 0.5]]), std=0.1
    )
    samples, component = mixture.sample(20_000, torch.Generator().manual_seed(0))
    for index in range(2):
        part = samples[component == index]
        assert len(part) / 20_000 == pytest.approx(mixture.weights[index].item(), abs=0.01)
        torch.testing.assert_close(part.mean(0), mixture.means[index], rtol=0, atol=0.006)
        torch.testing.assert_close(part.std(0), torch.full((2,), 0.1), rtol=0.03, atol=0)


def test_its_denoiser_beats_every_shifted_one_on_its_own_samples() -> None:
    mixture = random_mixture(seed=0)
    generator = torch.Generator().manual_seed(1)
    x0, _ = mixture.sample(50_000, generator)
    sigma = torch.full((50_000,), 0.3)
    x = diffuse(x0, sigma, torch.randn(50_000, 2, generator=generator))
    residual = mixture.denoiser()(x, sigma) - x0
    assert residual.mean(0).abs().max() < 0.003  # unbiased
    assert (residual * x).mean(0).abs().max() < 0.003  # orthogonal to what it was told
    blurred = GaussianMixture(weights=mixture.weights, means=mixture.means, std=0.2).denoiser()
    assert residual.square().mean() < 0.95 * (blurred(x, sigma) - x0).square().mean()


def test_the_data_set_is_labelled_by_component_and_seeded() -> None:
    mixture = random_mixture(seed=0)
    data = mixture_dataset(mixture, num=500, seed=7)
    assert torch.equal(data.samples, mixture_dataset(mixture, num=500, seed=7).samples)
    assert not torch.equal(data.samples, mixture_dataset(mixture, num=500, seed=8).samples)
    assert (data.name, data.num_classes, len(data)) == ("gaussians", 8, 500)
    nearest = torch.cdist(data.samples, mixture.means).argmin(1)
    assert (nearest == data.labels).float().mean() > 0.97


def test_too_many_modes_for_the_square_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError, match=r"100 modes of std 0\.1 do not fit.*smaller std"):
        random_mixture(num_components=100, std=0.1)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="std > 0 and extent > 0, not 8, 0 and 1"):
        random_mixture(std=0)
