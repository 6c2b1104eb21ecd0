"""A small classifier of scikit-learn's digits whose features carry `fd_feature`."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.lab.data import digits_dataset
from disback_plugin.lab.metrics.classifier import Classifier

FORMAT_VERSION = "1"
NUM_EPOCHS = 24
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
HELD_OUT_SHARE = 0.2


class DigitClassifier(Classifier):
    """Images (n, 1, 8, 8) in [-1, 1] -> logits (n, 10)."""

    num_classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(48 * 4, 64), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(64, self.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images.reshape(-1, 1, 8, 8)))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations (n, 64) of images (n, 1, 8, 8), on the CPU in float32."""
        parts = images.detach().to("cpu", torch.float32).reshape(-1, 1, 8, 8).split(1024)
        return torch.cat([self.body(part) for part in parts])

    @torch.no_grad()
    def classes(self, features: Tensor) -> Tensor:
        """Most likely class (n,) int64 of features (n, 64)."""
        return self.head(features).argmax(dim=1)


class DigitsSplit(NamedTuple):
    """Images (n, 1, 8, 8) float32 in [-1, 1] and labels (n,) int64, for fitting and held out."""

    images: Tensor
    labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor


def digit_classifier(cache_dir: Path | None = None, seed: int = 0) -> DigitClassifier:
    """The classifier of `seed`, read from `cache_dir` where it lies there, else trained (seconds).

    The cache is one safetensors file. Raises RunError where that file is damaged.
    """
    if cache_dir is None:
        return train_digit_classifier(seed)
    file = Path(cache_dir) / f"digits-classifier-v{FORMAT_VERSION}-seed{seed}.safetensors"
    if file.exists():
        return _without_weights().load(
            file, f"cached classifier {file} is damaged", "delete it: training anew takes seconds"
        )
    classifier = train_digit_classifier(seed)
    classifier.save(file)
    return classifier


@torch.enable_grad()
def train_digit_classifier(seed: int = 0) -> DigitClassifier:
    """Fit on four fifths of the digits, Adam with a cosine rate; the global RNG is untouched."""
    generator = torch.Generator().manual_seed(seed)
    split = digits_split()
    classifier = _initialised(generator)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, NUM_EPOCHS)
    for _ in range(NUM_EPOCHS):
        order = torch.randperm(len(split.images), generator=generator)
        for batch in order.split(BATCH_SIZE):
            loss = F.cross_entropy(classifier(split.images[batch]), split.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        scheduler.step()
    guessed = classifier.classes(classifier.features(split.held_out_images))
    classifier.accuracy = float((guessed == split.held_out_labels).double().mean())
    return classifier.eval().requires_grad_(False)


def digits_split() -> DigitsSplit:
    """scikit-learn's 1,797 digits in one fixed split."""
    digits = digits_dataset()
    images, labels = digits.samples, digits.labels
    assert labels is not None
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    num_held_out = int(HELD_OUT_SHARE * len(images))
    held_out, fitted = order[:num_held_out], order[num_held_out:]
    return DigitsSplit(images[fitted], labels[fitted], images[held_out], labels[held_out])


def _without_weights() -> DigitClassifier:
    with torch.device("meta"):  # ordinary construction would draw from the global RNG
        return DigitClassifier()


def _initialised(generator: torch.Generator) -> DigitClassifier:
    classifier = _without_weights().to_empty(device="cpu")
    for name, parameter in classifier.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
    return classifier
