"""Distances between sample sets, coverage, time to thresholds and the statistics over seeds."""

from disback_plugin.lab.metrics.coverage import class_coverage, mode_coverage
from disback_plugin.lab.metrics.digit_classifier import DigitClassifier, digit_classifier
from disback_plugin.lab.metrics.distances import (
    GaussianFit,
    fit_gaussian,
    frechet_between,
    frechet_distance,
)
from disback_plugin.lab.metrics.energy_distance import energy_distance
from disback_plugin.lab.metrics.health import Health, compare_pulls, node_health
from disback_plugin.lab.metrics.image_classifier import (
    ClassifierSettings,
    ImageClassifier,
    image_classifier,
)
from disback_plugin.lab.metrics.mismatch import Mismatch, mismatch_degree
from disback_plugin.lab.metrics.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein
from disback_plugin.lab.metrics.stable_target_field import stable_target

__all__ = [
    "ClassifierSettings",
    "DigitClassifier",
    "GaussianFit",
    "Health",
    "ImageClassifier",
    "Mismatch",
    "SlicedWasserstein",
    "class_coverage",
    "compare_pulls",
    "digit_classifier",
    "energy_distance",
    "fit_gaussian",
    "frechet_between",
    "frechet_distance",
    "image_classifier",
    "mismatch_degree",
    "mode_coverage",
    "node_health",
    "sliced_wasserstein",
    "stable_target",
]
