"""From features to the numbers of a protocol, each under the name that its network allows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import ConfigError
from disback_plugin.lab.evaluation.feature_store import FeatureStore
from disback_plugin.lab.evaluation.measuring import rows_of
from disback_plugin.lab.evaluation.networks import POOL, SPATIAL, FeatureNetwork
from disback_plugin.lab.evaluation.protocol import Number, Protocol
from disback_plugin.lab.evaluation.references import PATCH, Reference
from disback_plugin.lab.evaluation.statistics import fit_stream, splits
from disback_plugin.lab.metrics import (
    GaussianFit,
    frechet_between,
    inception_score,
    kernel_distance,
    precision_recall,
)

# what a number is called where another network than the protocol's made it
OTHER_NAMES: dict[Number, str] = {
    "FID": "Frechet distance",
    "sFID": "spatial Frechet distance",
    "KID": "kernel distance",
    "IS": "classifier score",
    "precision": "precision",
    "recall": "recall",
    "patch FID": "patch Frechet distance",
    "CLIP score": "CLIP score",
}


def title(number: Number, protocol: Protocol, network: FeatureNetwork) -> str:
    """`FID`, or `Frechet distance (pixels)` where it is none."""
    if network.name == protocol.network or number == "CLIP score":
        return number
    return f"{OTHER_NAMES[number]} ({network.name})"


def possible(
    numbers: Sequence[Number], protocol: Protocol, network: FeatureNetwork, asked: bool
) -> tuple[Number, ...]:
    """Those that this network can give; ConfigError where one of the others was asked for."""
    lacking: list[Number] = []
    if SPATIAL not in network.layers:
        lacking.append("sFID")
    if not network.has_classes:
        lacking.append("IS")
    if protocol.patch is None:
        lacking.append("patch FID")
    if asked and (wrong := [number for number in numbers if number in lacking]):
        raise ConfigError(
            f"{network.name} in protocol {protocol.name} gives no {', '.join(wrong)}: leave it out"
        )
    return tuple(number for number in numbers if number not in lacking)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The stores of the samples, and of the reference's own images where it has some."""

    main: FeatureStore
    patch: FeatureStore | None = None
    real: FeatureStore | None = None


def compute(
    numbers: Sequence[Number],
    measured: Measured,
    reference: Reference,
    protocol: Protocol,
    network: FeatureNetwork,
    device: torch.device,
    rows: np.ndarray | None = None,
) -> dict[str, float]:
    """Each number of the rows by its title; CLIP scores are not made of features, see there."""
    found: dict[Number, float] = {}
    layers: dict[Number, tuple[FeatureStore | None, str, str]] = {
        "FID": (measured.main, POOL, POOL),
        "sFID": (measured.main, SPATIAL, SPATIAL),
        "patch FID": (measured.patch, POOL, PATCH),
    }
    for number, (store, layer, name) in layers.items():
        if number in numbers:
            assert store is not None
            own, _ = fit_stream(store.pieces(layer, rows), device)
            found[number] = frechet_between(*_alike(own, reference.fit(name, number), reference))
    if "IS" in numbers:
        found["IS"] = inception_score(_classes(measured.main, network, protocol.split, rows))
    if {"KID", "precision", "recall"} & {*numbers}:
        found |= _by_features(numbers, rows_of(measured.main, POOL, rows), measured, reference)
    return {
        title(number, protocol, network): found[number] for number in numbers if number in found
    }


def _by_features(
    numbers: Sequence[Number], generated: Tensor, measured: Measured, reference: Reference
) -> dict[Number, float]:
    real = reference.features
    if measured.real is not None:
        real = rows_of(measured.real, POOL)
    if real is None:
        raise ConfigError(
            f"{reference.file} has statistics only, and KID, precision and recall need features of "
            "real images: leave them out (--numbers), or make a reference (--make-reference)"
        )
    found: dict[Number, float] = {}
    if "KID" in numbers:
        found["KID"] = kernel_distance(generated, real)
    if "precision" in numbers or "recall" in numbers:
        overlap = precision_recall(generated, real)
        found |= {"precision": overlap.precision, "recall": overlap.recall}
    return found


def _classes(
    store: FeatureStore, network: FeatureNetwork, size: int, rows: np.ndarray | None
) -> Iterator[Tensor]:
    for part in splits(store.pieces(POOL, rows), size):
        yield network.classes(part)


def _alike(
    own: GaussianFit, real: GaussianFit, reference: Reference
) -> tuple[GaussianFit, GaussianFit]:
    if own.mean.shape != real.mean.shape:
        raise ConfigError(
            f"{reference.file} is of {real.mean.numel():,} features, the samples have "
            f"{own.mean.numel():,}: another network made it"
        )
    return own, real
