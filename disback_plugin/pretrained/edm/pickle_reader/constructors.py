"""The allow-list: every name that an EDM checkpoint needs, and what we make of it instead.

What stands here is the whole of what a file can cause. Nothing is imported by name.
"""

import re
from collections.abc import Callable
from typing import Any

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.pickle_reader.machine import Constructor, refuse, shown
from disback_plugin.pretrained.edm.pickle_reader.records import (
    Module,
    NumpyType,
    Storage,
    StoredTensor,
)
from disback_plugin.pretrained.edm.pickle_reader.source import Span
from disback_plugin.pretrained.edm.pickle_reader.storages import read_storage

PERSISTENCE_VERSION = 6  # of NVlabs' torch_utils.persistence
TORCH_LAYER = re.compile(r"torch\.nn\.modules\.[a-z_]+\.([A-Z][A-Za-z0-9]*)")
NUMBER_TYPE = re.compile(r"f[248]|[iu][1248]|b1")


def wrong_arguments(name: str) -> CheckpointError:
    """The error for a known name with arguments that it does not have."""
    return CheckpointError(f"damaged: the arguments of {name}")


class AllowList:
    """Finds constructors for one file; a tensor's bytes are parsed once, however often named."""

    def __init__(self) -> None:
        self.storages: dict[int, Storage] = {}
        known: dict[str, Callable[[tuple[Any, ...]], Any]] = {
            "torch_utils.persistence._reconstruct_persistent_obj": make_module,
            "torch._utils._rebuild_tensor_v2": make_tensor,
            "torch._utils._rebuild_parameter": make_parameter,
            "torch.storage._load_from_bytes": self.make_storage,
            "collections.OrderedDict": make_empty_dict,
            "dnnlib.util.EasyDict": make_empty_dict,
            "builtins.set": make_set,
            "numpy.dtype": make_number_type,
            "numpy.core.multiarray.scalar": make_number,
            "numpy._core.multiarray.scalar": make_number,
        }
        self.known = {name: Constructor(name, build) for name, build in known.items()}

    def find(self, name: str) -> Constructor:
        """The constructor of a name; CheckpointError that names what is not allowed."""
        if name in self.known:
            return self.known[name]
        layer = TORCH_LAYER.fullmatch(name)
        if layer is None:
            raise refuse(name)
        return Constructor(name, lambda arguments: make_layer(layer[1], arguments))

    def make_storage(self, arguments: tuple[Any, ...]) -> Storage:
        """The storage that a tensor's bytes hold."""
        match arguments:
            case (Span() as raw,):
                if raw.start not in self.storages:
                    self.storages[raw.start] = read_storage(raw)
                return self.storages[raw.start]
        raise wrong_arguments("torch.storage._load_from_bytes")


def make_module(arguments: tuple[Any, ...]) -> Module:
    """A record of a persistent object; its source code is dropped unread."""
    match arguments:
        case (
            {
                "type": "class",
                "version": int(version),
                "class_name": str(name),
                "state": dict(state),
            },
        ):
            if version != PERSISTENCE_VERSION:
                raise CheckpointError(
                    f"holds a {shown(name)} of persistence version {version}; EDM's files have "
                    f"version {PERSISTENCE_VERSION}"
                )
            return Module(name, state)
    raise wrong_arguments("torch_utils.persistence._reconstruct_persistent_obj")


def make_layer(class_name: str, arguments: tuple[Any, ...]) -> Module:
    """A record of one of torch's own layers or containers."""
    if arguments:
        raise wrong_arguments(class_name)
    return Module(class_name)


def make_tensor(arguments: tuple[Any, ...]) -> StoredTensor:
    """A tensor: storage, offset, size, stride; whether it needs gradients, and its hooks, drop."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(size), tuple(stride), bool(), dict()):
            return StoredTensor(storage, offset, size, stride)
    raise wrong_arguments("torch._utils._rebuild_tensor_v2")


def make_parameter(arguments: tuple[Any, ...]) -> StoredTensor:
    """The tensor that a parameter is."""
    match arguments:
        case (StoredTensor() as tensor, bool(), dict()):
            return tensor
    raise wrong_arguments("torch._utils._rebuild_parameter")


def make_empty_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Dictionaries of every kind are plain ones here; their items follow."""
    if arguments:
        raise wrong_arguments("a dictionary")
    return {}


def make_set(arguments: tuple[Any, ...]) -> set[str]:
    """A set of the names in a list, which is emptied: a file cannot have many copies made of it."""
    match arguments:
        case (list(names),) if all(type(name) is str for name in names):
            found = set(names)
            names.clear()
            return found
    raise wrong_arguments("builtins.set")


def make_number_type(arguments: tuple[Any, ...]) -> NumpyType:
    """A numpy type of one number."""
    match arguments:
        case (str(code), bool(), bool()) if NUMBER_TYPE.fullmatch(code):
            return NumpyType(code)
    raise CheckpointError("has a numpy type that is not a plain number's")


def make_number(arguments: tuple[Any, ...]) -> bool | int | float:
    """A numpy number, as Python's own."""
    match arguments:
        case (NumpyType() as kind, Span() as raw):
            return kind.number(raw)
    raise wrong_arguments("numpy.core.multiarray.scalar")
