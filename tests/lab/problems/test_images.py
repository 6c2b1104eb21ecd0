"""Images in an LMDB: what the settings ask for, and distances in closed form."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from disback_plugin.errors import ConfigError
from disback_plugin.lab.data import DataSet, ImageLMDB, write_image_lmdb
from disback_plugin.lab.problems.images import ImagesConfig, ImagesEvaluator
from tests.lab.trainer.conftest import tiny_config

CLASSIFIER = {"num_epochs": 1, "channels": 4, "batch_size": 16}


def test_the_distance_of_shifted_images_is_the_shift_of_their_averages() -> None:
    data = torch.randn(64, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert ImagesEvaluator(data)(data) == {"fd_pixel": pytest.approx(0, abs=1e-9)}
    assert ImagesEvaluator(data)(data + 0.5)["fd_pixel"] == pytest.approx(16 * 0.25)


def test_large_images_are_averaged_to_sixteen_pixels_a_side() -> None:
    small = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert large.shape == (8, 3, 64, 64)
    other = torch.randn(9, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    assert ImagesEvaluator(large)(other)["fd_pixel"] == pytest.approx(
        ImagesEvaluator(small)(other)["fd_pixel"]
    )


def test_a_diverged_student_is_infinitely_far() -> None:
    broken = torch.full((4, 1, 4, 4), math.nan)
    assert ImagesEvaluator(torch.randn(8, 1, 4, 4))(broken) == {"fd_pixel": math.inf}


def test_where_the_data_are_is_the_settings_choice(lmdb: Path) -> None:
    disk = ImagesConfig(lmdb=lmdb).load().dataset
    held = ImagesConfig(lmdb=lmdb, in_memory=True).load().dataset
    assert isinstance(disk, ImageLMDB)
    assert isinstance(held, DataSet)


def test_a_classifier_needs_labels_and_images_in_memory(lmdb: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'classifier' needs in_memory: true"):
        ImagesConfig(lmdb=lmdb, classifier=CLASSIFIER)
    images = np.zeros((4, 3, 8, 8), np.uint8)
    write_image_lmdb(tmp_path / "bare", ((image, None) for image in images))
    config = ImagesConfig(lmdb=tmp_path / "bare", in_memory=True, classifier=CLASSIFIER)
    with pytest.raises(ConfigError, match=r"classifier needs labels, which .*bare does not have"):
        config.load()


def test_a_classifier_that_has_no_batch_is_refused_before_any_training(tmp_path: Path) -> None:
    images = np.zeros((16, 3, 8, 8), np.uint8)
    write_image_lmdb(tmp_path / "few", ((image, 0) for image in images))
    config = ImagesConfig(lmdb=tmp_path / "few", in_memory=True, classifier=CLASSIFIER)
    with pytest.raises(ConfigError, match=r"batch_size=16 is more than nine tenths of the 16"):
        config.load()


def test_its_distance_is_a_metric_only_with_a_classifier(lmdb: Path) -> None:
    assert ImagesConfig(lmdb=lmdb).metric_names == ("fd_pixel",)
    both = ImagesConfig(lmdb=lmdb, in_memory=True, classifier=CLASSIFIER)
    assert both.metric_names == ("fd_pixel", "fd_classifier")
    text = f"problem={{kind: images, lmdb: {lmdb}}}"
    with pytest.raises(ConfigError, match="has no metric 'fd_classifier'"):
        tiny_config(text, "evaluation.primary=fd_classifier")
