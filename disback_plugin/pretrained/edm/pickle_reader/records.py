"""What a pickle's objects become: inert records of modules, storages and tensors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.pickle_reader.machine import Record, shown
from disback_plugin.pretrained.edm.pickle_reader.source import Span


@dataclass
class Module(Record):
    """An object with attributes: a persistent one, or one of torch.nn's (its state comes later)."""

    class_name: str
    state: dict[str, Any] | None = None

    def receive(self, state: Any) -> None:
        """Take the attributes, once."""
        if self.state is not None or type(state) is not dict:
            raise CheckpointError(f"damaged: the state of a {shown(self.class_name)}")
        self.state = state

    def table(self, name: str) -> dict[str, Any]:
        """An attribute that is a table of children, e.g. `_modules`; empty where there is none."""
        found = (self.state or {}).get(name, {})
        if type(found) is not dict:
            raise CheckpointError(f"damaged: {name} of a {shown(self.class_name)}")
        return found

    def hidden(self) -> set[str]:
        """The names of buffers that are no part of the state dict."""
        found = (self.state or {}).get("_non_persistent_buffers_set", set())
        if type(found) is not set:
            raise CheckpointError(f"damaged: the hidden buffers of a {shown(self.class_name)}")
        return found


@dataclass
class NumpyType(Record):
    """A numpy type of one number, e.g. `f8`."""

    code: str

    def receive(self, state: Any) -> None:
        """Take numpy's state of a type, of which only the byte order says something."""
        match state:
            case (int(), "<" | "|", None, None, None, -1, -1, 0):
                return
        raise CheckpointError("has a numpy type that is not a plain little-endian number")

    def number(self, raw: Span) -> bool | int | float:
        """The one number that `raw` holds, as Python's own."""
        dtype = np.dtype(f"<{self.code}")
        if raw.length != dtype.itemsize:
            raise CheckpointError(f"damaged: {raw.length} bytes for a number of type {dtype}")
        number = np.empty(1, dtype)
        raw.read_into(number.view(np.uint8).data)
        return number.item()


@dataclass(frozen=True)
class Storage:
    """A one-dimensional array of numbers, which stay in the file until they are asked for."""

    dtype: torch.dtype
    raw: Span

    @property
    def num_numbers(self) -> int:
        """How many numbers it holds."""
        return self.raw.length // self.dtype.itemsize

    def load(self) -> Tensor:
        """The numbers, (num_numbers,), read from the file straight into the tensor's memory."""
        data = torch.empty(self.raw.length, dtype=torch.uint8)
        self.raw.read_into(data.numpy().data)
        return data.view(self.dtype)


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as a view of a storage; it fits, as it was checked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        limit = self.storage.num_numbers
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or any(type(number) is not int for number in numbers):
            raise CheckpointError("damaged: a tensor's size and stride are not whole numbers")
        if min(numbers) < 0 or max(self.stride, default=0) > limit or len(self.size) > 8:
            raise CheckpointError(f"damaged: size {self.shape}, strides or offset of a tensor")
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True)
        )
        if not 0 < self.num_numbers <= limit or last >= limit:
            raise CheckpointError(
                f"wrong shape: a tensor of size {self.shape} does not fit its storage of "
                f"{limit} numbers"
            )

    @property
    def shape(self) -> str:
        """The size in words."""
        return shown("x".join(str(size) for size in self.size) or "()")

    @property
    def num_numbers(self) -> int:
        """How many numbers it has."""
        product = 1
        for size in self.size:
            product *= size
        return product

    def load(self) -> Tensor:
        """The tensor, of shape `size`."""
        return self.storage.load().as_strided(self.size, self.stride, self.offset)
