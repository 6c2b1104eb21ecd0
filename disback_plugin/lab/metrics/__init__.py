"""Distances between sample sets, coverage, mismatch, and what a node's pull is worth."""

from disback_plugin.lab.metrics.classifier import (
    ClassifierSettings,
    ImageClassifier,
    image_classifier,
)
from disback_plugin.lab.metrics.digit_classifier import DigitClassifier, digit_classifier
from disback_plugin.lab.metrics.distances import (
    GaussianFit,
    SlicedWasserstein,
    all_finite,
    class_coverage,
    coarse_pixels,
    energy_distance,
    fit_gaussian,
    frechet_between,
    frechet_distance,
    mode_coverage,
    sliced_wasserstein,
)
from disback_plugin.lab.metrics.feature_scores import (
    Overlap,
    inception_score,
    kernel_distance,
    precision_recall,
)
from disback_plugin.lab.metrics.scores import (
    Health,
    Mismatch,
    compare_pulls,
    mismatch_degree,
    node_health,
    stable_target,
)
