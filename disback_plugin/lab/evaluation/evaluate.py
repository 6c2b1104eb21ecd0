"""One evaluation: the samples' features, the reference's, the numbers, and what they depend on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from statistics import fmean, stdev
from typing import Any

import numpy as np

from disback_plugin.errors import DataError, count
from disback_plugin.lab.evaluation.feature_store import FeatureStore
from disback_plugin.lab.evaluation.measuring import Workplace
from disback_plugin.lab.evaluation.networks import POOL, SPATIAL, FeatureNetwork
from disback_plugin.lab.evaluation.numbers import Measured, compute, possible, title
from disback_plugin.lab.evaluation.protocol import FEATURES_OF_BOTH, Number, Protocol
from disback_plugin.lab.evaluation.references import Reference
from disback_plugin.lab.evaluation.samples import Images
from disback_plugin.lab.evaluation.statistics import fit_stream
from disback_plugin.lab.results.evaluations import Evaluation

ALL = "all"
_PACKAGES = ("disback_plugin", "torch", "numpy", "pillow", "clean-fid", "torch-fidelity")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked: `numbers` beyond or below the protocol's own; smoke: any number of images."""

    protocol: Protocol
    network: FeatureNetwork
    numbers: tuple[Number, ...] | None = None
    smoke: bool = False
    cell: str | None = None

    @property
    def chosen(self) -> tuple[Number, ...]:
        """The numbers that are computed of features; the CLIP score is apart."""
        wanted = self.numbers or self.protocol.numbers
        chosen = possible(wanted, self.protocol, self.network, self.numbers is not None)
        return tuple(number for number in chosen if number != "CLIP score")


def evaluate(
    images: Images,
    reference: Reference,
    request: Request,
    place: Workplace,
    more: Mapping[str, float] | None = None,
) -> Evaluation:
    """The protocol's numbers of `images`; every process works, all get the result.

    more: numbers that are not made of features, by title. Raises DataError for too few images, and
    ConfigError where reference and network do not give what is asked.
    """
    protocol, network, numbers = request.protocol, request.network, request.chosen
    ranges = ranges_of(images, protocol, request.smoke)
    measured = _measure(images, reference, request, place)
    reference = _with_fits(reference, measured, place)
    by_range = {
        name: compute(numbers, measured, reference, protocol, network, place.device, rows)
        for name, rows in ranges.items()
    }
    best = best_range(by_range, title("FID", protocol, network))
    return Evaluation(
        protocol=protocol.name,
        numbers={**by_range[best], **(more or {})},
        ranges=by_range,
        summary=summarise(by_range),
        num_images=sum(len(rows) for rows in ranges.values()),
        smoke=request.smoke,
        pixels=str(protocol.pixels),
        samples=_about(images, measured.main),
        reference={
            "file": reference.file.name,
            "sha256": reference.digest,
            "made_with": dict(reference.made_with),
        },
        network={"name": network.name, "sha256": network.digest},
        remarks=remarks(images, request, len(ranges)),
        cell=request.cell,
        versions={name: _version(name) for name in _PACKAGES},
    )


def ranges_of(images: Images, protocol: Protocol, smoke: bool) -> dict[str, np.ndarray]:
    """Rows of each whole range of seeds, in order of seeds; else of the first images.

    smoke: all images, whatever the protocol wants. Raises DataError where there are too few.
    """
    order = np.argsort(images.seeds, kind="stable")
    if smoke:
        return {ALL: np.sort(order)}
    seeds, found = images.seeds[order], {}
    for first, end in protocol.seed_ranges:
        start, stop = np.searchsorted(seeds, (first, end))
        if stop - start == end - first:
            found[f"{first}-{end - 1}"] = np.sort(order[start:stop])
    if found:
        return found
    if len(images) < protocol.num_images:
        raise DataError(
            f"{images.path} has {count(len(images), 'image')}, protocol {protocol.name} takes "
            f"{protocol.num_images:,}: sample more, or try it out with --smoke, whose numbers are "
            "marked and compare with nothing"
        )
    return {ALL: np.sort(order[: protocol.num_images])}


def _measure(images: Images, reference: Reference, request: Request, place: Workplace) -> Measured:
    protocol, network, numbers = request.protocol, request.network, request.chosen
    patch = real = None
    layers = (POOL, SPATIAL) if "sFID" in numbers else (POOL,)
    main = place.measure("samples", images, protocol.pixels, network, layers)
    if "patch FID" in numbers:
        assert protocol.patch is not None
        patch = place.measure("patches", images, protocol.patch, network, (POOL,))
    if reference.images is not None and ({*FEATURES_OF_BOTH} & {*numbers} or not reference.fits):
        real = place.measure("real", reference.images, protocol.pixels, network, layers)
    return Measured(main=main, patch=patch, real=real)


def _with_fits(reference: Reference, measured: Measured, place: Workplace) -> Reference:
    """A batch of images without statistics is its own data set, as ADM's evaluator has it."""
    if reference.fits or measured.real is None:
        return reference
    real = measured.real
    fits = {one: fit_stream(real.pieces(one), place.device)[0] for one in real.layers}
    return replace(reference, fits=fits)


def best_range(by_range: Mapping[str, Mapping[str, float]], fid: str) -> str:
    """The range with the smallest FID, as EDM reports it; the first where there is no FID."""
    return min(by_range, key=lambda name: by_range[name].get(fid, 0.0))


def summarise(by_range: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Mean, spread (standard deviation) and minimum over the ranges; empty for a single one."""
    if len(by_range) < 2:
        return {}
    columns = {
        name: [numbers[name] for numbers in by_range.values()]
        for name in next(iter(by_range.values()))
    }
    return {
        name: {"mean": fmean(values), "spread": stdev(values), "minimum": min(values)}
        for name, values in columns.items()
    }


def remarks(images: Images, request: Request, num_ranges: int) -> tuple[str, ...]:
    """What a reader of the numbers must know."""
    protocol = request.protocol
    said = list(protocol.remarks)
    if request.smoke:
        said.append(f"a smoke test on {count(len(images), 'image')}: the numbers mean nothing")
    left_out = [n for n in protocol.numbers if n != "CLIP score" and n not in request.chosen]
    if left_out and request.numbers is None:
        said.append(f"{request.network.name} gives no {', '.join(left_out)}")
    if num_ranges < len(protocol.seed_ranges) and not request.smoke:
        said.append(f"{num_ranges} of the {len(protocol.seed_ranges)} ranges of seeds are there")
    if protocol.balanced and images.labels not in (None, "balanced"):
        said.append(f"labels were {images.labels}, the protocol's are balanced")
    return tuple(said)


def _about(images: Images, store: FeatureStore) -> dict[str, Any]:
    return {
        "name": images.path.name,
        "num_images": len(images),
        "pixels_sha256": store.pixels_digest(),
        "said": dict(images.said or {}),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
