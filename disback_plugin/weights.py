"""Weights of others: a state dict from a safetensors or torch file, nothing else in it."""

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import DisBackError, PathError
from disback_plugin.files import no_weights, read_tensors
from disback_plugin.reading import cut, require_regular, told


def read_weights(file: Path, error: type[DisBackError] = PathError) -> dict[str, Tensor]:
    """A state dict from a safetensors or torch file, told apart by content; nothing else in it.

    Raises `error`, naming the file and what it is instead; Python objects are never loaded.
    """
    require_regular(file, error)
    try:
        with file.open("rb") as stream:
            head = stream.read(512)
    except OSError as problem:
        raise error(f"{file} cannot be read: {told(problem)}") from None
    if seen := no_weights(head):
        raise error(f"{file} {seen}")
    if file.suffix == ".safetensors" or head[8:10] == b'{"':
        return read_tensors(file, error)[0]
    return _read_torch(file, error)


def _read_torch(file: Path, error: type[DisBackError]) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise error(
            f"{file} cannot be read as weights: it is cut short, or holds Python objects, which "
            "are never loaded; save the state dict alone, with tensors only"
        ) from None
    except Exception as problem:  # torch raises anything for a damaged file
        reason = cut(told(problem).splitlines()[0], 200)
        raise error(f"{file} cannot be read as weights: {reason}; get it again") from None
    if not isinstance(data, dict) or not data:
        raise error(f"{file} is no state dict: expected names and tensors only")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise error(
                f"{file} is no state dict: expected names and tensors only, {cut(name, 80)!r} "
                f"is a {type(value).__name__}"
            )
        if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
            raise error(f"{file}: {name!r} is no plain tensor with its values (sparse, or 'meta')")
    return data
