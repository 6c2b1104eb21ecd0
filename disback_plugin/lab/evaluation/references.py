"""What samples are measured against: published statistics, or our own of real images.

EDM's .npz has `mu`, `sigma`; a batch of ADM or the consistency models has `arr_0` and `mu`,
`sigma`, `mu_s`, `sigma_s`. They do not say which network and which resize made them: each is taken
by its own protocols alone. Ours (safetensors, sealed) say it, and are taken where it is the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import ConfigError, DataError
from disback_plugin.files import read_tensors, sha256, write_tensors
from disback_plugin.lab.data.array_rows import array_names
from disback_plugin.lab.evaluation.networks import POOL, SPATIAL, FeatureNetwork
from disback_plugin.lab.evaluation.protocol import Protocol
from disback_plugin.lab.evaluation.samples import Images, open_samples
from disback_plugin.lab.metrics import GaussianFit
from disback_plugin.reading import cut, require_regular, told
from disback_plugin.sealed import damage_of

PATCH = "patch"
FEATURES, MADE_WITH = "features", "reference"
KEPT_FEATURES = 10_000  # real images whose features are kept, evenly spread, for KID and precision
_ADM = {POOL: ("mu", "sigma"), SPATIAL: ("mu_s", "sigma_s")}
_ANEW = "make it again (--make-reference), or restore it"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """fits: by layer. features (n, d) of some real images, or `images`, from which to make them.

    made_with: what made it; of a published file only which format that is.
    """

    file: Path
    digest: str
    fits: Mapping[str, GaussianFit]
    made_with: Mapping[str, Any]
    features: Tensor | None = field(default=None, repr=False)
    images: Images | None = None

    def fit(self, layer: str, number: str) -> GaussianFit:
        """Of a layer; ConfigError where it has none."""
        if layer not in self.fits:
            raise ConfigError(
                f"{self.file} has no statistics for {number}: leave that out (--numbers), or make "
                "a reference that has them (--make-reference)"
            )
        return self.fits[layer]


def made_with(protocol: Protocol, network: FeatureNetwork) -> dict[str, Any]:
    """What must be the same of samples and reference."""
    return {
        "network": network.name,
        "network_sha256": network.digest,
        "pixels": str(protocol.pixels),
        "patch": None if protocol.patch is None else str(protocol.patch),
    }


def read_reference(file: Path, protocol: Protocol, network: FeatureNetwork) -> Reference:
    """The reference in `file`; ConfigError where another network or resize made it, DataError."""
    require_regular(file, DataError)
    if file.suffix.lower() == ".npz":
        return _published(file, protocol, network)
    tensors, metadata = read_tensors(file, DataError, sealed=True)
    with damage_of(file, DataError, _ANEW):
        said = dict(json.loads(metadata[MADE_WITH]))
        layers = sorted(name.removesuffix(".mean") for name in tensors if name.endswith(".mean"))
        fits = {
            name: GaussianFit(tensors[f"{name}.mean"], tensors[f"{name}.covariance"])
            for name in layers
        }
    due = made_with(protocol, network)
    for key, expected in due.items():
        if said.get(key) != expected and (key != PATCH or PATCH in fits):
            raise ConfigError(
                f"{file} was made with another {key.replace('_', ' ')}: {said.get(key)}, not "
                f"{expected}; such numbers do not compare. Make one for this protocol: "
                f"disback eval REAL --protocol {protocol.name} --make-reference FILE"
            )
    return Reference(
        file=file,
        digest=sha256(file),
        fits=fits,
        made_with=said,
        features=tensors.get(FEATURES),
    )


def write_reference(
    file: Path,
    fits: Mapping[str, GaussianFit],
    features: Tensor,
    said: Mapping[str, Any],
) -> None:
    """Our own reference, as `read_reference` reads it."""
    if file.suffix != ".safetensors":
        raise ConfigError(f"{file}: a reference of ours is a .safetensors file")
    tensors = {FEATURES: features}
    for layer, fit in fits.items():
        tensors |= {f"{layer}.mean": fit.mean, f"{layer}.covariance": fit.covariance}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, tensors, {MADE_WITH: json.dumps(said, sort_keys=True)}, seal=True)


def _published(file: Path, protocol: Protocol, network: FeatureNetwork) -> Reference:
    names = array_names(file)
    kind = "adm" if names & {"arr_0", "mu_s"} else "edm" if names >= {"mu", "sigma"} else None
    if kind is None:
        raise DataError(f"{file} has the arrays {cut(', '.join(sorted(names)))}; no statistics")
    if network.name != protocol.network:
        raise ConfigError(
            f"{file} is of {protocol.network}, the samples' features are of {network.name}: make a "
            "reference with the same features (--make-reference)"
        )
    if kind != protocol.foreign:
        own = f"only {protocol.foreign}'s" if protocol.foreign else "none but your own"
        raise ConfigError(
            f"{file} is a file of the format of {kind}'s statistics, which do not say what made "
            f"them; protocol {protocol.name} takes {own} (--make-reference)"
        )
    if "clean" in file.stem.lower().replace("-", "_").split("_"):
        raise ConfigError(
            f"{file} is named like clean-fid's statistics, of images that were resized first: they "
            f"do not compare with protocol {protocol.name}"
        )
    wanted = _ADM if kind == "adm" else {POOL: _ADM[POOL]}
    fits = {layer: _fit(file, *keys) for layer, keys in wanted.items() if {*keys} <= names}
    return Reference(
        file=file,
        digest=sha256(file),
        fits=fits,
        made_with={"format": kind},
        images=open_samples(file) if "arr_0" in names else None,
    )


def _fit(file: Path, mean_key: str, covariance_key: str) -> GaussianFit:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            mean = torch.from_numpy(arrays[mean_key].astype(np.float64))
            covariance = torch.from_numpy(arrays[covariance_key].astype(np.float64))
    except Exception as error:  # of the zip, of an array's header, of what unpacks
        raise DataError(f"{file} cannot be read: {told(error)}") from None
    width = mean.numel()
    if mean.shape != (width,) or covariance.shape != (width, width):
        raise DataError(
            f"{file}: {mean_key} is {tuple(mean.shape)} and {covariance_key} "
            f"{tuple(covariance.shape)}, not (d,) and (d, d)"
        )
    if not (torch.isfinite(mean).all() and torch.isfinite(covariance).all()):
        raise DataError(f"{file}: {mean_key} or {covariance_key} has numbers that are not finite")
    if not torch.allclose(covariance, covariance.T, rtol=1e-4, atol=1e-6):
        raise DataError(f"{file}: {covariance_key} is not symmetric: it is no covariance")
    return GaussianFit(mean, covariance)
