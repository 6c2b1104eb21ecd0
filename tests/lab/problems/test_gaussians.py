import torch

from disback_plugin.lab.data import GaussianMixture
from disback_plugin.lab.metrics import energy_distance, sliced_wasserstein
from disback_plugin.lab.problems.gaussians import GaussiansConfig, GaussiansEvaluator


def test_mixture_weights_are_normalised() -> None:
    config = GaussiansConfig(means=((0.0, 0.0), (3.0, 1.0)), std=0.1, weights=(1, 3))
    problem = config.load()
    assert problem.mixture.weights.tolist() == [0.25, 0.75]
    assert problem.num_classes == 0


def test_gaussians_evaluator_gives_the_named_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    data = means.repeat(100, 1) + 0.3 * torch.randn(200, 2, generator=generator)
    samples = means[0] + 0.3 * torch.randn(100, 2, generator=generator)
    mixture = GaussianMixture(weights=torch.tensor([0.5, 0.5]), means=means, std=0.3)
    values = GaussiansEvaluator(data, mixture)(samples)
    assert values == {
        "sliced_wasserstein": sliced_wasserstein(samples, data),
        "energy_distance": energy_distance(samples, data),
        "mode_coverage": 0.5,
    }
