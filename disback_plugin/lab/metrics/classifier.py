"""Classifiers whose features carry a distance: what they share, and image problems' ResNet."""

import logging
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from disback_plugin.config_base import StrictModel
from disback_plugin.errors import ConfigError, RunError
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.lab.data import mirror_half
from disback_plugin.lab.noise import seeded

logger = logging.getLogger("disback")

HELD_OUT_SHARE = 0.1  # of the images of an image problem
CHUNK = 1000
AnyClassifier = TypeVar("AnyClassifier", bound="Classifier")


class Classifier(nn.Module):
    """Images -> logits; `accuracy` is on images that it never saw."""

    accuracy = 0.0

    def save(self, file: Path) -> None:
        """As safetensors, which `load` reads."""
        file.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(file, self.state_dict(), {"accuracy": repr(self.accuracy)})

    def load(self: AnyClassifier, file: Path, complaint: str, remedy: str) -> AnyClassifier:
        """Itself with what `file` holds, frozen; RunError where that is not whole or not its own.

        The error says `complaint`, then why, then `remedy`.
        """
        try:
            tensors, metadata = read_tensors(file, RunError)
            self.accuracy = float(metadata["accuracy"])
            self.load_state_dict(tensors, strict=True, assign=True)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{complaint} ({reason}); {remedy}") from None
        return self.eval().requires_grad_(False)


class ClassifierSettings(StrictModel):
    """The classifier of an image problem; distances compare only where it is the same one.

    file: where it is kept and shared by experiments (default: in each experiment's teacher folder).
    """

    num_epochs: int = Field(default=10, gt=0)
    channels: int = Field(default=64, gt=0)
    batch_size: int = Field(default=256, gt=1)
    lr: float = Field(default=2e-3, gt=0)
    seed: int = 0
    file: Path | None = None

    def check(self, num_images: int) -> None:
        """Raise ConfigError where so many images make no batch of training."""
        if num_images - _num_held_out(num_images) < self.batch_size:
            raise ConfigError(
                f"problem.classifier.batch_size={self.batch_size} is more than nine tenths of the "
                f"{num_images} images"
            )


class ImageClassifier(Classifier):
    """Images (n, C, H, W) in [-1, 1] -> logits (n, num_classes); three levels, 4 x channels wide.

    `scale` makes the total variance of the features of images it never saw 100, so that distances
    have a meaning beforehand: 100 is that of a single point at the data's mean.
    """

    scale: Tensor

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.body = nn.Sequential(
            _convolution(in_channels, channels),
            _Residual(channels),
            _convolution(channels, 2 * channels, stride=2),
            _Residual(2 * channels),
            _convolution(2 * channels, 4 * channels, stride=2),
            _Residual(4 * channels),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(4 * channels, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Penultimate activations (n, 4 x channels) float32 on the CPU, computed on its device.

        Of images as they would be saved: clipped to [-1, 1], as for FID.
        """
        device, parts = self.head.weight.device, images.clamp(-1, 1).split(CHUNK)
        return torch.cat([(self.scale * self.body(part.to(device))).cpu() for part in parts])


def image_classifier(
    images: Tensor,
    labels: Tensor,
    settings: ClassifierSettings,
    folder: Path,
    device: torch.device | str = "cpu",
) -> ImageClassifier:
    """The classifier of `settings`, read from its file where it lies there, else trained.

    images (N, C, H, W) in [-1, 1], labels (N,) int64; in `folder` unless the settings name a file.
    Raises RunError where the file is damaged or of another network.
    """
    file = settings.file or folder / f"image-classifier-seed{settings.seed}.safetensors"
    if file.exists():
        classifier = _untrained(images, labels, settings).load(
            file, f"{file} is not the classifier of these settings", "delete it to train anew"
        )
        return classifier.to(device)
    classifier = train_image_classifier(images, labels, settings, device)
    classifier.save(file)
    logger.warning("%s: right on %.1f %% of held-out images", file, 100 * classifier.accuracy)
    return classifier


@torch.enable_grad()
def train_image_classifier(
    images: Tensor, labels: Tensor, settings: ClassifierSettings, device: torch.device | str = "cpu"
) -> ImageClassifier:
    """Fit on nine tenths, flipped and shifted; AdamW, one cycle; the global RNG is untouched."""
    rows = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(images), generator=rows)
    held_out, fitted = order.split([num := _num_held_out(len(images)), len(images) - num])
    images, labels = images.to(device), labels.to(device)
    classifier = _untrained(images, labels, settings).to(device).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=settings.lr, weight_decay=0.05)
    num_batches = len(fitted) // settings.batch_size
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.num_epochs * num_batches
    )
    low = torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda)
    for _ in range(settings.num_epochs):
        mixed = fitted[torch.randperm(len(fitted), generator=rows)]
        for batch in mixed.split(settings.batch_size)[:num_batches]:
            batch = batch.to(device)
            with low:
                guessed = classifier(_augmented(images[batch], rows))
            loss = F.cross_entropy(guessed.float(), labels[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
    classifier.eval().requires_grad_(False)
    images, labels = images[held_out.to(device)], labels[held_out.to(device)].cpu()
    features = classifier.features(images)
    guesses = classifier.head.cpu()(features).argmax(1)
    classifier.accuracy = float((guesses == labels).double().mean())
    classifier.scale.copy_(10 / features.var(0).sum().sqrt())
    return classifier.to(device)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels), _convolution(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def _convolution(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())


def _num_held_out(num_images: int) -> int:
    return max(1, int(HELD_OUT_SHARE * num_images))


def _untrained(images: Tensor, labels: Tensor, settings: ClassifierSettings) -> ImageClassifier:
    settings.check(len(images))
    with seeded(settings.seed):
        num_classes = int(labels.max()) + 1
        return ImageClassifier(images.shape[1], settings.channels, num_classes)


def _augmented(images: Tensor, rows: torch.Generator) -> Tensor:
    """Each image flipped or not; the batch shifted by up to an eighth, its border mirrored."""
    height, width = images.shape[2:]
    margin = width // 8
    down, right = torch.randint(2 * margin + 1, (2,), generator=rows).tolist()
    wide = F.pad(mirror_half(images, rows), [margin] * 4, mode="reflect")
    return wide[:, :, down : down + height, right : right + width]
