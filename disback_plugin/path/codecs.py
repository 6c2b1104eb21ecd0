"""How a node's tensors are stored: a codec maps them to what goes into its safetensors file.

A new codec is one class, registered by name; the manifest remembers which one wrote a path.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError
from disback_plugin.path.precision import alike

Tensors = Mapping[str, Tensor]


class NodeCodec(ABC):
    """Encodes a node relative to its teacher; decoding gives the same names and shapes back."""

    name: ClassVar[str]

    @abstractmethod
    def encode(self, node: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        """What is written to disk."""

    @abstractmethod
    def decode(self, stored: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        """The node's tensors from what was written."""

    @abstractmethod
    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        """One tensor's flat values from `begin` to `end`."""


class FullCodec(NodeCodec):
    """The tensors as they are, bit for bit."""

    name = "full"

    def encode(self, node: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        return dict(node)

    def decode(self, stored: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        return dict(stored)

    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        return stored.reshape(-1)[begin:end]


class DeltaCodec(NodeCodec):
    """Differences to the teacher in bfloat16: half the bytes of float32.

    The rounding error is at most 2^-9 of the *difference*, so a path survives that a bfloat16 copy
    of the weights would erase. Integer tensors (counters) are stored whole. Decodes to float32.
    """

    name = "delta"

    def encode(self, node: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        return {
            name: _difference(value.float(), teacher[name].float()).to(torch.bfloat16)
            if value.is_floating_point()
            else value
            for name, value in node.items()
        }

    def decode(self, stored: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        return {
            name: teacher[name].float() + value.float() if value.is_floating_point() else value
            for name, value in stored.items()
        }

    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        part = stored.reshape(-1)[begin:end]
        if not part.is_floating_point():
            return part
        return teacher.reshape(-1)[begin:end].float() + part.float()


def _difference(value: Tensor, teacher: Tensor) -> Tensor:
    """0 also between equal values that are not finite: a constant mask of -inf comes back."""
    return (value - teacher).masked_fill(alike(value, teacher), 0.0)


_CODECS: dict[str, NodeCodec] = {}


def register_codec(codec: NodeCodec) -> None:
    """Make a codec available under its name; a taken name is an error."""
    if codec.name in _CODECS:
        raise ConfigError(f"codec {codec.name!r} is already registered")
    _CODECS[codec.name] = codec


def get_codec(name: str) -> NodeCodec:
    """The codec of that name."""
    if name not in _CODECS:
        raise ConfigError(f"unknown codec {name!r}; {nearest(name, list(_CODECS))}")
    return _CODECS[name]


for _codec in (FullCodec(), DeltaCodec()):
    register_codec(_codec)
