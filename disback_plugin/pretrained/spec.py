"""`load_denoiser("edm-pkl:FILE")`: one way in for every checkpoint format."""

import importlib
import logging
import re
from pathlib import Path
from typing import Any

from disback_plugin.config_base import nearest
from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.detection import MEANING, detect
from disback_plugin.pretrained.formats import FORMATS

log = logging.getLogger(__name__)

# imported when first asked for: diffusers takes seconds, our own runs need the trainer
_MODULES = {
    "edm-pkl": "disback_plugin.pretrained.edm.registration",
    "cm": "disback_plugin.pretrained.consistency.registration",
    "diffusers": "disback_plugin.pretrained.diffusers.models",
    "run": "disback_plugin.lab.trainer.run_format",
    "safetensors": "disback_plugin.lab.trainer.run_format",
}
KINDS = tuple(_MODULES)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# what a kind reads besides the content that is detected as itself
_ALSO = {("cm", "cm-diffusers"), ("cm", "diffusers")}


def load_denoiser(spec: str, **options: Any) -> Denoiser:
    """D(x, sigma, labels=None) -> x0 from `kind:LOCATION`, in eval mode, on the CPU, in float32.

    kind: `edm-pkl`, `cm`, `diffusers`, `run` or `safetensors`; without one the content decides,
    and a log line says so. Options are the format's own. The result's `description` tells what was
    found. Raises ConfigError for an unknown kind or option, CheckpointError for what does not load.
    """
    kind, location = split_spec(spec)
    if kind not in FORMATS:
        _import_format(kind)
    denoiser, found = FORMATS[kind](location, options)
    denoiser.description = found
    log.info("%s", found)
    return denoiser.eval()


def _import_format(kind: str) -> None:
    """Let the format register; ConfigError with the command to run where its packages lack."""
    try:
        importlib.import_module(_MODULES[kind])
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "disback_plugin":
            raise
        extra = "train" if kind in ("run", "safetensors") else "pretrained"
        raise ConfigError(
            f"{kind}: needs the package {error.name!r}, which is not installed; run: "
            f"pip install 'disback_plugin[{extra}]'"
        ) from None


def describe(denoiser: Denoiser) -> Description:
    """What `load_denoiser` found."""
    assert isinstance(denoiser.description, Description), "not made by load_denoiser"
    return denoiser.description


def split_spec(spec: str) -> tuple[str, str]:
    """(kind, location) of a spec, checked against what lies there; a bare path is looked into."""
    kind, colon, location = spec.partition(":")
    if not colon or (kind not in KINDS and Path(spec).exists()):
        return _found_kind(spec)
    if kind not in KINDS:
        raise ConfigError(f"unknown kind of checkpoint {kind!r}; {nearest(kind, list(KINDS))}")
    if not location:
        raise ConfigError(f"{spec!r} names no file: write {kind}:FILE")
    _check_content(kind, location)
    return kind, location


def _found_kind(spec: str) -> tuple[str, str]:
    """The kind of what lies at a bare path."""
    path = Path(spec)
    if not path.exists():
        hint = f"; a repository on the hub is diffusers:{spec}" if _HUB_ID.fullmatch(spec) else ""
        raise ConfigError(f"no such file or folder: {spec}{hint}")
    found = detect(path)
    if found is None:
        raise CheckpointError(f"{spec} is of no known format; known: {'; '.join(MEANING.values())}")
    kind = found.split("-diffusers")[0]
    log.warning("%s is %s: read as %s:%s", spec, MEANING[found], kind, spec)
    return kind, spec


def _check_content(kind: str, location: str) -> None:
    """Refuse a location that is missing, or whose content is clearly another kind's."""
    path = Path(location)
    if not path.exists():
        if kind in ("diffusers", "cm") and _HUB_ID.fullmatch(location):
            return
        raise CheckpointError(f"no such file or folder: {location}")
    found = detect(path)
    if found is None or found == kind or (kind, found) in _ALSO:
        return
    known = found.split("-diffusers")[0]
    raise CheckpointError(
        f"{location} is {MEANING[found]}, not what {kind}: reads; write {known}:{location}"
    )
