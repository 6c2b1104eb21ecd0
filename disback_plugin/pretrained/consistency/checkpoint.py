"""OpenAI's `cd_*.pt`, `ct_*.pt` and `edm_*_ema.pt`: flat dicts of tensors, read as weights only."""

from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.foreign_weights import PICKLE, first_bytes, is_safetensors, read_weights

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def read_openai_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of an OpenAI consistency-model or EDM checkpoint, mapped from disk if possible.

    Raises CheckpointError for a file that is missing, truncated or of another format, and for one
    that holds anything but floating-point tensors by name. Nothing in the file is executed.
    """
    start = first_bytes(file)
    if is_safetensors(start):
        raise CheckpointError(
            f"{file} is a safetensors file, not OpenAI's .pt; for a diffusers repository give its "
            "folder"
        )
    try:
        data = read_weights(file)
    except CheckpointError as error:
        pickle = start.startswith(PICKLE) and "not written by torch.save" in str(error)
        hint = "; an official EDM pickle is edm-pkl:FILE" if pickle else ""
        raise CheckpointError(f"{error}{hint}") from None
    for name, value in data.items():
        if value.dtype not in DTYPES:
            raise CheckpointError(f"{file}: tensor {name!r} is {value.dtype}, not floating point")
    for needed in ("time_embed.0.weight", "input_blocks.0.0.weight"):
        if needed not in data:
            first = ", ".join(sorted(data)[:3]) or "none"
            raise CheckpointError(
                f"{file} is no consistency-model checkpoint of OpenAI's: it has no tensor "
                f"{needed!r} (its first names: {first})"
            )
    return data
