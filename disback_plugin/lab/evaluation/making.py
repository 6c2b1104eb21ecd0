"""A reference of our own: statistics of real images, with what made them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from disback_plugin.distributed import on_main
from disback_plugin.errors import DataError, count
from disback_plugin.lab.evaluation.evaluate import Request
from disback_plugin.lab.evaluation.feature_store import FeatureStore
from disback_plugin.lab.evaluation.measuring import Workplace, rows_of
from disback_plugin.lab.evaluation.networks import POOL
from disback_plugin.lab.evaluation.references import (
    KEPT_FEATURES,
    PATCH,
    made_with,
    write_reference,
)
from disback_plugin.lab.evaluation.samples import Images
from disback_plugin.lab.evaluation.statistics import fit_stream


def make_reference(images: Images, request: Request, place: Workplace, file: Path) -> None:
    """Measure real images as the protocol measures samples, and write what it compares with.

    All layers that the network gives are kept, patches where their number is wanted. Raises
    DataError where the protocol wants another number of real images, unless in a smoke test.
    """
    protocol, network = request.protocol, request.network
    due = protocol.num_real
    if due is not None and len(images) != due and not request.smoke:
        raise DataError(
            f"{images.path} has {count(len(images), 'image')}, protocol {protocol.name} compares "
            f"with {due:,}: give these"
        )
    store = place.measure("real", images, protocol.pixels, network, network.layers)
    fits = {layer: fit_stream(store.pieces(layer), place.device)[0] for layer in network.layers}
    wanted = request.numbers or protocol.numbers
    if protocol.patch is not None and "patch FID" in wanted:
        patches = place.measure("patches", images, protocol.patch, network, (POOL,))
        fits[PATCH] = fit_stream(patches.pieces(POOL), place.device)[0]
    kept = min(len(images), KEPT_FEATURES)
    rows = np.arange(kept) * len(images) // kept
    features, said = rows_of(store, POOL, rows), _said(images, request, store)
    on_main(lambda: write_reference(file, fits, features, said), f"writing {file}")


def _said(images: Images, request: Request, store: FeatureStore) -> dict[str, Any]:
    return {
        **made_with(request.protocol, request.network),
        "num_images": len(images),
        "source": images.path.name,
        "pixels_sha256": store.pixels_digest(),
        "smoke": request.smoke,
        "torch": torch.__version__,
    }
