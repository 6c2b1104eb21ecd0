"""How much of the data's variety the samples have: modes of a mixture, classes of images."""

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError
from disback_plugin.lab.metrics.distances import all_finite, sample_pair

RADIUS_IN_STD = 3.0
MIN_FRACTION = 0.2


def mode_coverage(
    samples: Tensor, means: Tensor, std: Tensor | float, weights: Tensor | None = None
) -> float:
    """Share of mixture components that get at least a fifth of the samples due to them.

    A sample counts for its nearest component, and only within 3 std of its mean. samples (n, d),
    means (k, d), std a number or (k,), weights (k,) (even where absent) that sum to 1. Returns a
    number in [0, 1]; 0 where a sample is not finite.
    """
    points, centres = sample_pair(samples, means)
    if not all_finite(points):
        return 0.0
    num_components = centres.shape[0]
    radius = RADIUS_IN_STD * torch.as_tensor(std, dtype=torch.float64).cpu().expand(num_components)
    due = torch.full((num_components,), 1 / num_components, dtype=torch.float64)
    if weights is not None:
        due = weights.detach().to("cpu", torch.float64)
    distance, nearest = torch.cdist(points, centres).min(dim=1)
    hits = nearest[distance <= radius[nearest]]
    shares = torch.bincount(hits, minlength=num_components).double() / points.shape[0]
    return float((shares >= MIN_FRACTION * due).double().mean())


def class_coverage(classes: Tensor, num_classes: int) -> float:
    """exp(entropy of the class shares) / num_classes: the effective share of classes.

    classes (n,) int64 from a classifier. 1 when all classes come equally often, 1 / num_classes
    when there is only one. It says nothing about quality: read it beside a distance.
    """
    if classes.ndim != 1 or classes.numel() == 0:
        raise DisBackError(f"classes have shape {tuple(classes.shape)}; give a tensor (n,), n >= 1")
    shares = torch.bincount(classes.cpu(), minlength=num_classes).double() / classes.numel()
    if shares.numel() > num_classes:
        raise DisBackError(f"class {int(classes.max())} seen where num_classes is {num_classes}")
    return float(torch.special.entr(shares).sum().exp()) / num_classes
