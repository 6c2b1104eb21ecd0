"""`edm-pkl:FILE`: the pickles of NVlabs/edm, read without running anything in them."""

import math
from collections.abc import Mapping
from typing import Any

from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.pretrained.edm import Precond, describe
from disback_plugin.pretrained.edm.opening import load_edm_pickle
from disback_plugin.pretrained.formats import register_format, take_options

SIGMA_MIN, SIGMA_MAX = 0.002, 80.0  # of EDM's own sampler, where the network names no limits


@register_format("edm-pkl")
def open_edm_pickle(location: str, options: Mapping[str, Any]) -> tuple[Denoiser, Description]:
    """The network `key` of the file; `ema`, the averaged weights, unless told otherwise."""
    given = take_options(options, "edm-pkl", {"key": "ema"})
    return with_limits("edm-pkl", load_edm_pickle(location, given["key"]))


def with_limits(source: str, denoiser: Precond) -> tuple[Denoiser, Description]:
    """An EDM denoiser and what it is; where it has no limits of sigma, it gets the sampler's."""
    denoiser.sigma_min = denoiser.sigma_min or SIGMA_MIN
    if math.isinf(denoiser.sigma_max):
        denoiser.sigma_max = SIGMA_MAX
    return denoiser, Description(source=source, **describe(denoiser))
