"""The classifier behind `fd_classifier`: learns, is seeded, and is one file that all runs share."""

import logging
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from disback_plugin.errors import ConfigError, RunError
from disback_plugin.lab.metrics import ClassifierSettings, frechet_distance, image_classifier
from disback_plugin.lab.metrics.classifier import train_image_classifier
from disback_plugin.lab.problems.images import ImagesEvaluator

SETTINGS = ClassifierSettings(num_epochs=6, channels=4, batch_size=32, lr=1e-2)


def colours(num: int = 300) -> tuple[Tensor, Tensor]:
    """Noisy red, green and blue squares."""
    rows = torch.Generator().manual_seed(0)
    labels = torch.arange(num) % 3
    images = 0.5 * torch.randn(num, 3, 8, 8, generator=rows)
    images[torch.arange(num), labels] += 1
    return images.clamp(-1, 1), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    image_classifier(*colours(), SETTINGS, folder)
    return folder


def test_it_learns_and_says_how_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "disback"):
        classifier = image_classifier(*colours(), SETTINGS, tmp_path)
    assert classifier.accuracy > 0.9
    assert f"right on {100 * classifier.accuracy:.1f} % of held-out images" in caplog.text
    held_out = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:30]
    features = classifier.features(colours()[0][held_out])
    assert float(features.var(0).sum()) == pytest.approx(100, rel=1e-4)
    images, labels = colours(30)
    assert float((classifier(images).argmax(1) == labels).double().mean()) > 0.9


def test_the_cache_is_one_file_and_gives_the_same_classifier(folder: Path) -> None:
    assert [file.name for file in folder.iterdir()] == ["image-classifier-seed0.safetensors"]
    torch.manual_seed(99)
    state = torch.get_rng_state()
    read = image_classifier(*colours(), SETTINGS, folder)
    again = train_image_classifier(*colours(), SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    assert read.accuracy == again.accuracy
    images, _ = colours(5)
    assert torch.equal(read.features(images), again.features(images))
    other = SETTINGS.model_copy(update={"seed": 1})
    assert not torch.equal(train_image_classifier(*colours(), other).head.weight, again.head.weight)


def test_a_file_of_the_settings_is_shared(folder: Path, tmp_path: Path) -> None:
    file = folder / "image-classifier-seed0.safetensors"
    settings = SETTINGS.model_copy(update={"file": file})
    image_classifier(*colours(), settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["torn", "of another size", "without accuracy"])
def test_a_file_of_another_classifier_is_refused(damage: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "image-classifier-seed0.safetensors"
    settings = SETTINGS
    save_file(load_file(folder / file.name), file, {"accuracy": "0.5"})
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "of another size":
        settings = SETTINGS.model_copy(update={"channels": 8})
    else:
        save_file(load_file(folder / file.name), file)
    with pytest.raises(RunError, match=f"{file.name} is not the classifier of these settings"):
        image_classifier(*colours(), settings, tmp_path)


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch_size=32 is more than nine tenths of the 33"):
        image_classifier(*colours(33), SETTINGS, tmp_path)


def test_the_evaluator_measures_in_its_features(folder: Path) -> None:
    classifier = image_classifier(*colours(), SETTINGS, folder)
    (data, labels), (samples, _) = colours(), colours(120)
    evaluate = ImagesEvaluator(data, classifier)
    values = evaluate(samples)
    expected = frechet_distance(classifier.features(samples), classifier.features(data))
    assert values == {
        "fd_pixel": pytest.approx(frechet_distance(samples, data)),
        "fd_classifier": pytest.approx(expected),
    }
    assert evaluate(data[labels == 0])["fd_classifier"] > 10 * expected  # one class alone
    assert torch.equal(classifier.features(3 * data), classifier.features((3 * data).clamp(-1, 1)))
    broken = evaluate(torch.full((4, 3, 8, 8), math.nan))
    assert broken == {"fd_pixel": math.inf, "fd_classifier": math.inf}
