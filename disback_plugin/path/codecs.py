"""How a node's tensors are stored: a codec maps them to what goes into its safetensors file.

A new codec is one class, registered by name; the manifest remembers which one wrote a path.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from disback_plugin.config_base import nearest
from disback_plugin.errors import ConfigError
from disback_plugin.path import groups
from disback_plugin.path.precision import difference
from disback_plugin.tensors import Shaped

Tensors = Mapping[str, Tensor]


class NodeCodec(ABC):
    """Stores a node's tensors one by one, each relative to the teacher's of that name.

    What is stored has the node's names, and its shapes unless `unpacked` says otherwise.
    """

    name: ClassVar[str]
    loss: ClassVar[str] = ""  # what a node loses of its change, in words; nothing where empty

    @abstractmethod
    def encode_tensor(self, value: Tensor, teacher: Tensor) -> Tensor:
        """What is written to disk for one tensor."""

    @abstractmethod
    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        """The tensor's flat values from `begin` to `end`; reads nothing outside `stored_range`."""

    def stored_range(
        self, stored: Tensor, teacher: Tensor, begin: int, end: int
    ) -> tuple[int, int]:
        """Where in flat `stored` the flat values from `begin` to `end` lie."""
        return begin, end

    def unpacked(self, stored: Tensors, due: Mapping[str, Sequence[int]]) -> Mapping[str, Shaped]:
        """The shapes of what `stored` decodes to, for a node whose shapes are to be `due`."""
        return stored

    def encode(self, node: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        """What is written to disk."""
        return {name: self.encode_tensor(value, teacher[name]) for name, value in node.items()}

    def decode(self, stored: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        """The node's tensors from what was written."""
        return {
            name: self.decode_range(value, teacher[name], 0, teacher[name].numel()).view(
                teacher[name].shape
            )
            for name, value in stored.items()
        }


class FullCodec(NodeCodec):
    """The tensors as they are, bit for bit."""

    name = "full"

    def encode_tensor(self, value: Tensor, teacher: Tensor) -> Tensor:
        return value

    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        return stored.reshape(-1)[begin:end]

    def decode(self, stored: Tensors, teacher: Tensors) -> dict[str, Tensor]:
        return dict(stored)  # needs no teacher


class DeltaCodec(NodeCodec):
    """Differences to the teacher in bfloat16: half the bytes of float32.

    The rounding error is at most 2^-8 of the *difference*, so a path survives that a bfloat16 copy
    of the weights would erase. Integer tensors (counters) are stored whole. Decodes to float32.
    """

    name = "delta"
    loss = "up to 1/256 of every weight's change"

    def encode_tensor(self, value: Tensor, teacher: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        return difference(value.float(), teacher.float()).to(torch.bfloat16)

    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        part = stored.reshape(-1)[begin:end]
        if not part.is_floating_point():
            return part
        return teacher.reshape(-1)[begin:end].float() + part.float()


class BoundedCodec(NodeCodec):
    """Differences in groups of 4-bit integers (see `groups`): 0.28 of the bytes of bfloat16.

    Each tensor's error is at most `BOUND` of its own change as a 2-norm, so the node's is too. That
    is checked when it is written, on what is read back: a tensor beyond it gets 8 bits (0.53), and
    one that is beyond it even so, not finite, or no float of at most 32 bits is stored as it is.
    """

    name = "bounded"
    loss = "up to a tenth of every tensor's change"
    BOUND = 0.1

    def encode_tensor(self, value: Tensor, teacher: Tensor) -> Tensor:
        small = value.numel() < groups.GROUP or value.element_size() > 4
        if small or not value.is_floating_point():
            return value
        rows = groups.pack(value, teacher, self.BOUND)
        return value if rows is None else rows

    def decode_range(self, stored: Tensor, teacher: Tensor, begin: int, end: int) -> Tensor:
        if self._is_packed(stored, teacher):
            return groups.unpack(stored, teacher, begin, end)
        return stored.reshape(-1)[begin:end]

    def stored_range(
        self, stored: Tensor, teacher: Tensor, begin: int, end: int
    ) -> tuple[int, int]:
        if not self._is_packed(stored, teacher):
            return begin, end
        width = stored.shape[1]
        return begin // groups.GROUP * width, -(-end // groups.GROUP) * width

    def unpacked(self, stored: Tensors, due: Mapping[str, Sequence[int]]) -> Mapping[str, Shaped]:
        return {
            name: due[name]
            if name in due and groups.is_packed(value, math.prod(due[name]))
            else value
            for name, value in stored.items()
        }

    @staticmethod
    def _is_packed(stored: Tensor, teacher: Tensor) -> bool:
        return teacher.is_floating_point() and groups.is_packed(stored, teacher.numel())


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


for _codec in (FullCodec(), DeltaCodec(), BoundedCodec()):
    register_codec(_codec)
