"""An EDM network's class, arguments and tensors, and their safetensors file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.config_base import StrictModel
from disback_plugin.errors import CheckpointError, ConfigError
from disback_plugin.files import read_tensors, write_tensors
from disback_plugin.pretrained.edm.build import PRECONDITIONINGS

HEADER = "disback"  # key of our own data in the file's header


@dataclass(frozen=True, kw_only=True)
class EDMCheckpoint:
    """What `build_edm` needs, and the tensors by their state-dict names."""

    class_name: str
    init_kwargs: dict[str, Any]
    tensors: dict[str, Tensor]


class _Header(StrictModel):
    format: str
    class_name: str
    init_kwargs: dict[str, Any]


def write_edm_safetensors(checkpoint: EDMCheckpoint, file: Path) -> int:
    """Replace `file` by the checkpoint, atomically; returns its bytes."""
    header = _Header(
        format="edm", class_name=checkpoint.class_name, init_kwargs=checkpoint.init_kwargs
    )
    return write_tensors(file, checkpoint.tensors, {HEADER: json.dumps(header.model_dump())})[0]


def read_edm_safetensors(file: str | Path) -> EDMCheckpoint:
    """The checkpoint that `write_edm_safetensors` wrote; CheckpointError for any other file."""
    tensors, metadata = read_tensors(Path(file), CheckpointError)
    if HEADER not in metadata:
        raise CheckpointError(
            f"{file}: was not written by `disback convert edm-pkl`: its header does not tell the "
            "network's class and arguments"
        )
    try:
        header = _Header(**json.loads(metadata[HEADER]))
    except (json.JSONDecodeError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{file}: is not an EDM safetensors file: {error}") from None
    if header.format != "edm" or header.class_name not in PRECONDITIONINGS:
        raise CheckpointError(f"{file}: holds a {header.format} {header.class_name}, not an EDM")
    return EDMCheckpoint(
        class_name=header.class_name, init_kwargs=header.init_kwargs, tensors=tensors
    )
