"""OpenAI's `cd_*.pt`, `ct_*.pt` and `edm_*_ema.pt`: flat dicts of tensors, read as weights only."""

import re
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.detection import detect, starts_as_zip

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def read_openai_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of an OpenAI consistency-model or EDM checkpoint, mapped from disk if possible.

    Raises CheckpointError for a file that is missing, truncated or of another format, and for one
    that holds anything but floating-point tensors by name. Nothing in the file is executed.
    """
    _refuse_other_formats(file)
    data = _load(file)
    if not isinstance(data, dict):
        raise CheckpointError(f"{file} holds a {type(data).__name__}, not tensors by name")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{file} is not a flat dict of tensors: {name!r} is a {type(value).__name__}; "
                "give the file of the weights alone"
            )
        if value.dtype not in DTYPES:
            raise CheckpointError(f"{file}: tensor {name!r} is {value.dtype}, not floating point")
        if value.layout is not torch.strided or value.is_meta:
            raise CheckpointError(f"{file}: tensor {name!r} is sparse or has no numbers")
    size = file.stat().st_size
    if sum(value.nbytes for value in data.values()) > size:  # e.g. by strides of zero
        raise CheckpointError(f"{file} has tensors of more than its {size:,} bytes: they overlap")
    for needed in ("time_embed.0.weight", "input_blocks.0.0.weight"):
        if needed not in data:
            first = ", ".join(sorted(data)[:3]) or "none"
            raise CheckpointError(
                f"{file} is no consistency-model checkpoint of OpenAI's: it has no tensor "
                f"{needed!r} (its first names: {first})"
            )
    return dict(data)


def _refuse_other_formats(file: Path) -> None:
    """Clear words for what is often given by mistake; torch's own are about its internals."""
    if not file.is_file():
        raise CheckpointError(f"no such checkpoint: {file}")
    found = detect(file)
    if found == "safetensors":
        raise CheckpointError(
            f"{file} is a safetensors file, not OpenAI's .pt; for a diffusers repository give its "
            "folder"
        )
    if found != "cm":
        raise CheckpointError(
            f"{file} was not written by torch.save; an official EDM pickle is edm-pkl:FILE"
        )
    if starts_as_zip(file) and not _is_whole_zip(file):
        size = file.stat().st_size
        raise CheckpointError(f"{file} is incomplete or damaged ({size:,} bytes): fetch it anew")


def _is_whole_zip(file: Path) -> bool:
    """Whether the archive's end, which torch needs to map it, is there and sound."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return False


def _load(file: Path) -> object:
    try:
        mapped = _is_whole_zip(file)  # torch's older format cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # damaged bytes surface as almost any exception
        # torch's own words advise to load without weights_only, which would run the file's code
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"asks to run {asked[1]}, and only tensors are read" if asked else "is damaged"
        raise CheckpointError(f"{file} {reason}") from error
