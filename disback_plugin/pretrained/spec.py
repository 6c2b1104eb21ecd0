"""`load_denoiser("edm-pkl:FILE")`: one way in for every checkpoint format, `kind:LOCATION`."""

import importlib
import logging
import os
import re
from pathlib import Path
from typing import Any

from torch import nn

from disback_plugin.config_base import nearest
from disback_plugin.diffusion import Denoiser, Description
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.foreign_weights import translated
from disback_plugin.pretrained.detection import FORMATS as CONTENTS
from disback_plugin.pretrained.detection import HUB_NAME, look
from disback_plugin.pretrained.formats import FORMATS, Format, TextEncoder
from disback_plugin.reading import cut, local_path

log = logging.getLogger(__name__)

# which registers the format, imported when first asked for: diffusers takes seconds, and of the
# trainer, which reads our own runs, nothing is known here but its name
_MODULES = {
    "edm-pkl": "disback_plugin.pretrained.edm.opening",
    "cm": "disback_plugin.pretrained.consistency.opening",
    "diffusers": "disback_plugin.pretrained.diffusers.opening",
    "weights": "disback_plugin.pretrained.weights.opening",
    "run": "disback_plugin.lab.trainer.run_format",
    "safetensors": "disback_plugin.lab.trainer.run_format",
}
KINDS = tuple(_MODULES)
_OF_FILES, _OF_FOLDERS = ("edm-pkl", "safetensors"), ("diffusers", "run")
_READS = {
    "edm-pkl": "a .pkl of NVlabs/edm",
    "cm": "a .pt of OpenAI's consistency models, or a diffusers folder of one",
    "diffusers": "a pipeline's folder",
    "weights": "a file or folder of a network's weights alone, with the option base=KIND:LOCATION",
    "run": "a folder of `disback run`",
    "safetensors": "a file of `disback convert`, or a run's teacher",
}
_SUFFIXES = (".pkl", ".pt", ".pth", ".ckpt", ".safetensors")
_ON_HUB = re.compile(r"(?:.*:)?https?:/+(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")


def load_denoiser(spec: str, **options: Any) -> Denoiser:
    """D(x, sigma, labels=None) -> x0 from `kind:LOCATION`, in eval mode, on the CPU, in float32.

    kind: `edm-pkl`, `cm`, `diffusers`, `weights`, `run` or `safetensors`; without one the content
    decides, and a log line says so. Options are the format's own. The result's `description` tells
    what was found. Raises ConfigError for an unknown kind or option, CheckpointError for what does
    not load.
    """
    kind, location = split_spec(spec)
    with translated(f"{kind}:{location} does not load"):
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
    with translated(f"the text encoder of {spec} does not load"):
        return open_encoder(location, options)


def load_decoder(spec: str, **options: Any) -> nn.Module:
    """The VAE of `diffusers:REPO_OR_DIR`, or of what was made from it: latents -> images.

    Options are those of `load_denoiser`. Raises ConfigError, CheckpointError where there is none.
    """
    kind, location = split_spec(spec)
    open_decoder = _format(kind).decoder
    if open_decoder is None:
        raise ConfigError(f"only diffusers pipelines have a VAE, {spec} has none")
    with translated(f"the VAE of {spec} does not load"):
        return open_decoder(location, options)


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
    if not colon or (kind not in KINDS and os.path.lexists(spec)):
        return _found_kind(str(local_path(Path(spec))))
    if kind not in KINDS:
        _refuse_address(spec, spec)
        raise ConfigError(f"unknown kind of checkpoint {kind!r}; {nearest(kind, list(KINDS))}")
    if not location:
        raise ConfigError(f"{spec!r} names no file: write {kind}:FILE")
    _refuse_address(spec, location)
    location = str(local_path(Path(location)))
    _check_content(kind, location)
    return kind, location


def _refuse_address(spec: str, location: str) -> None:
    if page := _ON_HUB.match(spec):
        raise ConfigError(f"{cut(spec)} is an address: a repository is diffusers:{page[1]}")
    local_path(Path(location))


def _found_kind(spec: str) -> tuple[str, str]:
    """The kind of what lies at a bare path."""
    path = Path(spec)
    if not os.path.lexists(path):
        hint = f"; a repository on the hub is diffusers:{spec}" if HUB_NAME.fullmatch(spec) else ""
        raise ConfigError(f"no such file or folder: {spec}{hint}")
    found = look(path)
    if found is None:
        raise CheckpointError(
            f"{spec} is of no known format{_held(path)}; known: {'; '.join(CONTENTS)}"
        )
    if not found.sure or not found.kinds:
        raise CheckpointError(
            f"{spec} is {found.what}; {found.advice or 'nothing tells what network it is of'}"
        )
    log.warning("%s is %s: read as %s:%s", spec, found.what, found.kinds[0], spec)
    return found.kinds[0], spec


def _check_content(kind: str, location: str) -> None:
    """Refuse a location that is missing, or whose content is clearly another kind's."""
    path = Path(location)
    if not os.path.lexists(path):
        if kind in ("diffusers", "cm") and HUB_NAME.fullmatch(location):
            return
        raise CheckpointError(f"no such file or folder: {location}")
    if kind == "weights":  # of whatever network: its opener compares them with the base's
        return
    found = look(path)
    if found is not None and kind not in found.kinds:
        write = f"write {found.kinds[0]}:{location}" if found.kinds and found.sure else ""
        advice = found.advice or write or f"{kind}: reads {_READS[kind]}"
        raise CheckpointError(f"{location} is {found.what}, not what {kind}: reads; {advice}")
    if kind in (_OF_FILES if path.is_dir() else _OF_FOLDERS):
        wrong = f"is a folder{_held(path)}" if path.is_dir() else "is a file"
        if found is None:
            raise CheckpointError(f"{location} {wrong}, {kind}: reads {_READS[kind]}")


def _held(path: Path) -> str:
    """What a folder holds that could be meant."""
    if not path.is_dir():
        return ""
    files = sorted(file.name for file in path.iterdir() if file.suffix in _SUFFIXES)
    return f" (it holds {', '.join(files[:5])}: give one of them)" if files else ""
