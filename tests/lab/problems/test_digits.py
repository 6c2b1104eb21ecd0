import math

import pytest
import torch

from disback_plugin.lab.metrics import frechet_distance
from disback_plugin.lab.metrics.digit_classifier import digits_split
from disback_plugin.lab.problems.digits import DigitsConfig, DigitsEvaluator


@pytest.mark.parametrize("conditional", [False, True])
def test_labels_count_only_where_asked_for(conditional: bool) -> None:
    problem = DigitsConfig(conditional=conditional).load()
    assert problem.data_shape == (1, 8, 8)
    assert problem.num_classes == (10 if conditional else 0)


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
