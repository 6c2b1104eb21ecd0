"""Networks' weights in safetensors files and checkpoints, loaded strictly."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from disback_plugin.errors import RunError


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors in `file`; RunError if it is missing or no safetensors."""
    try:
        return load_file(file)
    except FileNotFoundError:
        raise RunError(f"no such weights file: {file}") from None
    except SafetensorError as error:
        raise RunError(f"{file} is no whole safetensors file: {error}") from None


def load_weights(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Load `tensors` into `module`; RunError naming `source` and the tensors that do not fit."""
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise RunError(f"{source} does not fit the network of these settings: {error}") from None
