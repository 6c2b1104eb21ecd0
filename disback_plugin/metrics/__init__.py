"""Distances between sample sets, coverage, time to thresholds and the statistics over seeds."""

from disback_plugin.metrics.bootstrap import SpeedUp, bootstrap_mean, speed_up
from disback_plugin.metrics.coverage import class_coverage, mode_coverage
from disback_plugin.metrics.direction import higher_is_better
from disback_plugin.metrics.energy_distance import energy_distance
from disback_plugin.metrics.evaluator import DigitsEvaluator, Evaluator, GaussiansEvaluator
from disback_plugin.metrics.features import DigitClassifier, digit_classifier
from disback_plugin.metrics.frechet import (
    GaussianFit,
    fit_gaussian,
    frechet_between,
    frechet_distance,
)
from disback_plugin.metrics.health import Health, compare_pulls, node_health
from disback_plugin.metrics.image_classifier import (
    ClassifierSettings,
    ImageClassifier,
    image_classifier,
)
from disback_plugin.metrics.images import ImagesEvaluator, SamplesEvaluator
from disback_plugin.metrics.mismatch import Mismatch, mismatch_degree
from disback_plugin.metrics.sliced_wasserstein import SlicedWasserstein, sliced_wasserstein
from disback_plugin.metrics.stable_target_field import stable_target
from disback_plugin.metrics.statistics import (
    MIN_SEEDS,
    Interval,
    Spread,
    mean_interval,
    paired_ratios,
    ratio_interval,
    spread,
)
from disback_plugin.metrics.thresholds import CurvePoint, Reach, time_to_threshold

__all__ = [
    "MIN_SEEDS",
    "ClassifierSettings",
    "CurvePoint",
    "DigitClassifier",
    "DigitsEvaluator",
    "Evaluator",
    "GaussianFit",
    "GaussiansEvaluator",
    "Health",
    "ImageClassifier",
    "ImagesEvaluator",
    "Interval",
    "Mismatch",
    "Reach",
    "SamplesEvaluator",
    "SlicedWasserstein",
    "SpeedUp",
    "Spread",
    "bootstrap_mean",
    "class_coverage",
    "compare_pulls",
    "digit_classifier",
    "energy_distance",
    "fit_gaussian",
    "frechet_between",
    "frechet_distance",
    "higher_is_better",
    "image_classifier",
    "mean_interval",
    "mismatch_degree",
    "mode_coverage",
    "node_health",
    "paired_ratios",
    "ratio_interval",
    "sliced_wasserstein",
    "speed_up",
    "spread",
    "stable_target",
    "time_to_threshold",
]
