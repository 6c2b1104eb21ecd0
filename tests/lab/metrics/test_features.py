"""The digit classifier is good, seeded, cached without pickle; the evaluators use it rightly."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from disback_plugin.errors import RunError
from disback_plugin.lab.metrics import (
    DigitClassifier,
    digit_classifier,
    energy_distance,
    frechet_distance,
    sliced_wasserstein,
)
from disback_plugin.lab.metrics.digit_classifier import digits_split
from disback_plugin.lab.problems.evaluator import DigitsEvaluator, GaussiansEvaluator


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifier")


@pytest.fixture(scope="module")
def classifier(cache: Path) -> DigitClassifier:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad():  # an evaluation may well ask for it first
        trained = digit_classifier(cache)
    assert torch.equal(before, torch.get_rng_state()), "training moved the global RNG"
    return trained


def test_held_out_accuracy_shows_that_the_features_mean_something(classifier) -> None:
    assert classifier.accuracy > 0.97
    split = digits_split()
    guessed = classifier(split.held_out_images).argmax(dim=1)
    assert float((guessed == split.held_out_labels).double().mean()) == classifier.accuracy


def test_training_is_seeded_whatever_the_global_rng(classifier) -> None:
    torch.manual_seed(99)
    again = digit_classifier()
    images = digits_split().images[:10]
    assert torch.equal(again.features(images), classifier.features(images))


def test_split_has_every_digit_once_and_scaled() -> None:
    split = digits_split()
    assert split.images.shape == (1438, 1, 8, 8)
    assert split.held_out_images.shape == (359, 1, 8, 8)
    assert (split.images.min(), split.images.max()) == (-1.0, 1.0)
    assert split.labels.bincount().min() > 100


def test_cache_is_one_safetensors_file_and_gives_the_same_classifier(cache, classifier) -> None:
    assert [file.name for file in cache.iterdir()] == ["digits-classifier-v1-seed0.safetensors"]
    read = digit_classifier(cache)
    assert read.accuracy == classifier.accuracy
    for name, tensor in classifier.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name


def test_cache_is_used_where_it_lies(classifier, tmp_path: Path) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in classifier.state_dict().items()}
    save_file(state, tmp_path / "digits-classifier-v1-seed0.safetensors", {"accuracy": "0.5"})
    read = digit_classifier(tmp_path)
    assert read.accuracy == 0.5
    assert read.features(torch.ones(1, 1, 8, 8)).abs().sum() == 0


@pytest.mark.parametrize("damage", ["torn", "renamed", "reshaped", "no accuracy"])
def test_a_damaged_cache_is_refused_by_name(cache, classifier, tmp_path: Path, damage) -> None:
    name = "digits-classifier-v1-seed0.safetensors"
    state, metadata = load_file(cache / name), {"accuracy": "0.99"}
    if damage == "renamed":
        state["head.gain"] = state.pop("head.bias")
    if damage == "reshaped":
        state["head.bias"] = state["head.bias"][:5]
    save_file(state, tmp_path / name, None if damage == "no accuracy" else metadata)
    if damage == "torn":
        (tmp_path / name).write_bytes((cache / name).read_bytes()[:1000])
    with pytest.raises(RunError, match=f"{name} is damaged.*delete it"):
        digit_classifier(tmp_path)


def test_digits_evaluator_gives_the_named_metrics(classifier) -> None:
    split = digits_split()
    evaluate = DigitsEvaluator(split.images, classifier)
    samples = split.held_out_images[:200]
    values = evaluate(samples)
    feature = frechet_distance(classifier.features(samples), classifier.features(split.images))
    assert list(values) == ["fd_pixel", "fd_feature", "class_coverage"]
    assert values["fd_pixel"] == pytest.approx(frechet_distance(samples, split.images), rel=1e-9)
    assert values["fd_feature"] == pytest.approx(feature, rel=1e-9)
    assert values["class_coverage"] > 0.95


def test_digits_evaluator_tells_real_digits_from_noise_and_from_collapse(classifier) -> None:
    split = digits_split()
    evaluate = DigitsEvaluator(split.images, classifier)
    real = evaluate(split.held_out_images)
    noise = evaluate(torch.rand(359, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    ones = evaluate(split.images[split.labels == 1])
    for metric in ("fd_pixel", "fd_feature"):
        assert noise[metric] > 10 * real[metric]
        assert ones[metric] > 3 * real[metric]
    assert ones["class_coverage"] < 0.15


def test_diverged_images_are_infinitely_far_and_cover_nothing(classifier) -> None:
    evaluate = DigitsEvaluator(digits_split().images, classifier)
    values = evaluate(torch.full((8, 1, 8, 8), math.nan))
    assert values == {"fd_pixel": math.inf, "fd_feature": math.inf, "class_coverage": 0.0}


def test_gaussians_evaluator_gives_the_named_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([[-3.0, 0.0], [3.0, 0.0]])
    data = means.repeat(100, 1) + 0.3 * torch.randn(200, 2, generator=generator)
    samples = means[0] + 0.3 * torch.randn(100, 2, generator=generator)
    values = GaussiansEvaluator(data, means, 0.3)(samples)
    assert values == {
        "sliced_wasserstein": sliced_wasserstein(samples, data),
        "energy_distance": energy_distance(samples, data),
        "mode_coverage": 0.5,
    }
