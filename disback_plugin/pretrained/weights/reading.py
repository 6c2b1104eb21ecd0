"""Where a student's weights lie in what DMD2, SwiftBrush, accelerate and diffusers save."""

import re
from pathlib import Path

from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.foreign_weights import read_weights
from disback_plugin.reading import cut, local_path

# of accelerate (DMD2's generator is its first model), of diffusers (SwiftBrush's student is `unet`)
_NAMES = (
    "pytorch_model.bin",
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
)
_PREFIXES = ("module.", "_orig_mod.")  # of DDP and torch.compile


def student_tensors(location: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, or of the student in a checkpoint's folder, without wrappers' names.

    Raises CheckpointError where there is no such file, or where it holds no plain tensors.
    """
    tensors: dict[str, Tensor] = {}
    for file in _files(local_path(Path(location))):
        tensors |= read_weights(file)
    return {_unwrapped(name): value for name, value in tensors.items()}


def _files(location: Path) -> list[Path]:
    """One file, or all shards of one model."""
    if not location.is_dir():
        return [location]
    for name in _NAMES:
        file = location / name
        if file.is_file():
            return [file]
        shard = re.compile(rf"{re.escape(file.stem)}-\d+-of-(\d+){re.escape(file.suffix)}")
        found = [(shard.fullmatch(other.name), other) for other in file.parent.glob("*")]
        shards = sorted((other, int(match[1])) for match, other in found if match)
        if shards and {num for _, num in shards} != {len(shards)}:
            raise CheckpointError(
                f"{file.parent} holds {len(shards)} of {shards[0][1]} files of its model: fetch "
                "the others"
            )
        if shards:
            return [other for other, _ in shards]
    held = ", ".join(sorted(file.name for file in location.iterdir()))
    raise CheckpointError(
        f"{location} holds no student's weights, none of {', '.join(_NAMES)} "
        f"(it holds {cut(held, 200) or 'nothing'})"
    )


def _unwrapped(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
