"""Distances between sample sets, coverage, time to thresholds and the statistics over seeds."""

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
from disback_plugin.metrics.sliced_wasserstein import sliced_wasserstein
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
    "CurvePoint",
    "DigitClassifier",
    "DigitsEvaluator",
    "Evaluator",
    "GaussianFit",
    "GaussiansEvaluator",
    "Interval",
    "Reach",
    "Spread",
    "class_coverage",
    "digit_classifier",
    "energy_distance",
    "fit_gaussian",
    "frechet_between",
    "frechet_distance",
    "higher_is_better",
    "mean_interval",
    "mode_coverage",
    "paired_ratios",
    "ratio_interval",
    "sliced_wasserstein",
    "spread",
    "time_to_threshold",
]
