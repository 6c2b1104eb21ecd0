"""Image and latent samples against data, or against the teacher's own samples."""

import math
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from disback_plugin.lab.metrics.distances import fit_gaussian, frechet_between
from disback_plugin.lab.metrics.energy_distance import energy_distance
from disback_plugin.lab.metrics.image_classifier import ImageClassifier
from disback_plugin.lab.metrics.sample_matrix import all_finite

MAX_SIDE = 16  # 768 numbers an RGB image: a covariance that a few thousand images determine


class ImagesEvaluator:
    """Frechet distances: fd_pixel of images averaged to at most 16x16, and fd_classifier.

    `data`: real images (m, C, H, W) in [-1, 1]. fd_pixel sees colours and coarse shapes, no
    texture; fd_classifier, only with a `classifier`, what its features see. Good for comparing
    arms, no substitute for FID. inf where samples are not finite.
    """

    def __init__(self, data: Tensor, classifier: ImageClassifier | None = None) -> None:
        self._spaces: dict[str, Callable[[Tensor], Tensor]] = {"fd_pixel": _shrunk}
        if classifier is not None:
            self._spaces["fd_classifier"] = classifier.features
        self._fits = {name: fit_gaussian(space(data)) for name, space in self._spaces.items()}

    def __call__(self, samples: Tensor) -> dict[str, float]:
        if not all_finite(samples):
            return dict.fromkeys(self._spaces, math.inf)
        return {
            name: frechet_between(fit_gaussian(space(samples)), self._fits[name])
            for name, space in self._spaces.items()
        }


class SamplesEvaluator:
    """energy_distance to the samples in a file, which need not be there before the first call.

    For prompts, where there is no data: the file holds the teacher's multi-step samples.
    """

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, samples: Tensor) -> dict[str, float]:
        return {"energy_distance": energy_distance(samples, load_file(self.file)["samples"])}


def _shrunk(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return adaptive_avg_pool2d(images.float(), (min(height, MAX_SIDE), min(width, MAX_SIDE)))
