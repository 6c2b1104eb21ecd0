"""The digit classifier is good, seeded, and cached without pickle."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from disback_plugin.errors import RunError
from disback_plugin.lab.metrics import digit_classifier
from disback_plugin.lab.metrics.digit_classifier import digits_split


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
