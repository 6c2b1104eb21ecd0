"""`load_denoiser("edm-pkl:FILE")`: one way in for every checkpoint format, `kind:LOCATION`."""

import importlib
import logging
from pathlib import Path
from typing import Any

from disback_plugin.config_base import nearest
from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.pretrained.detection import HUB_NAME, MEANING, detect
from disback_plugin.pretrained.formats import FORMATS, Format, TextEncoder

log = logging.getLogger(__name__)

# which registers the format, imported when first asked for: diffusers takes seconds, and of the
# trainer, which reads our own runs, nothing is known here but its name
_MODULES = {
    "edm-pkl": "disback_plugin.pretrained.edm.opening",
    "cm": "disback_plugin.pretrained.consistency.opening",
    "diffusers": "disback_plugin.pretrained.diffusers.opening",
    "run": "disback_plugin.lab.trainer.run_format",
    "safetensors": "disback_plugin.lab.trainer.run_format",
}
KINDS = tuple(_MODULES)
# what a kind reads besides the content that is detected as itself
_ALSO = {("cm", "cm-diffusers"), ("cm", "diffusers")}


def load_denoiser(spec: str, **options: Any) -> Denoiser:
    """D(x, sigma, labels=None) -> x0 from `kind:LOCATION`, in eval mode, on the CPU, in float32.

    kind: `edm-pkl`, `cm`, `diffusers`, `run` or `safetensors`; without one the content decides,
    and a log line says so. Options are the format's own. The result's `description` tells what was
    found. Raises ConfigError for an unknown kind or option, CheckpointError for what does not load.
    """
    kind, location = split_spec(spec)
    denoiser = _format(kind).open(location, options)
    log.info("%s", describe(denoiser))
    return denoiser.eval()


def load_text_encoder(spec: str, **options: Any) -> TextEncoder:
    """The text encoder of `diffusers:REPO_OR_DIR`, or of a run whose teacher came from there.

    Options are those of `load_denoiser`. Raises ConfigError, CheckpointError where there is none.
    """
    kind, location = split_spec(spec)
    open_encoder = _format(kind).text_encoder
    if open_encoder is None:
        raise ConfigError(f"only diffusers pipelines have text encoders, {spec} has none")
    return open_encoder(location, options)


def _format(kind: str) -> Format:
    """What registered; ConfigError with the command to run where the packages for it lack."""
    try:
        if kind not in FORMATS:
            importlib.import_module(_MODULES[kind])
        return FORMATS[kind]
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
    assert denoiser.description is not None, "not made by load_denoiser"
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
        hint = f"; a repository on the hub is diffusers:{spec}" if HUB_NAME.fullmatch(spec) else ""
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
        if kind in ("diffusers", "cm") and HUB_NAME.fullmatch(location):
            return
        raise CheckpointError(f"no such file or folder: {location}")
    found = detect(path)
    if found is None or found == kind or (kind, found) in _ALSO:
        return
    known = found.split("-diffusers")[0]
    raise CheckpointError(
        f"{location} is {MEANING[found]}, not what {kind}: reads; write {known}:{location}"
    )
