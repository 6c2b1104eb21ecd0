"""Writes pickles in the opcode layout of NVlabs/edm's, with source text of our own.

For stand-ins and tests: a file may ask for anything here, and the reader must not run it.
"""

import struct
from dataclasses import dataclass
from typing import Any

from torch import Tensor

SOURCE = "raise SystemExit('the source code in a checkpoint was run')\n"
_EMPTY = object()  # an absent state


@dataclass(frozen=True)
class Name:
    """A global, by name."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call that the file asks for: REDUCE, or NEWOBJ; then BUILD where there is a state."""

    function: Any
    arguments: Any
    opcode: bytes = b"R"
    state: Any = _EMPTY


@dataclass(frozen=True, eq=False)
class Shared:
    """A value that is written once and then referred to, wherever this very object stands."""

    value: Any


@dataclass(frozen=True)
class Raw:
    """Opcodes as they are."""

    opcodes: bytes


def dump(value: Any, protocol: int = 4) -> bytes:
    """One pickle; texts and names are memoized, as the standard pickler does."""
    body = Writer().write(value) + b"."
    frame = b"\x95" + struct.pack("<Q", len(body)) if protocol >= 4 else b""
    return b"\x80" + bytes([protocol]) + frame + body


class Writer:
    def __init__(self) -> None:
        self.memo: dict[Any, int] = {}

    def write(self, value: Any) -> bytes:
        if not isinstance(value, (str, Name, Shared)):
            return self._plain(value)
        if value in self.memo:
            return b"j" + struct.pack("<I", self.memo[value])
        match value:
            case str():
                parts = self._text(value)
            case Name(module, name):
                parts = self.write(module) + self.write(name) + b"\x93"
            case Shared(inner):
                parts = self.write(inner)
        self.memo[value] = len(self.memo)
        return parts + b"\x94"

    def _text(self, text: str) -> bytes:
        data = text.encode()
        short = len(data) < 256
        return (
            b"\x8c" + bytes([len(data)]) if short else b"X" + struct.pack("<I", len(data))
        ) + data

    def _all(self, values: Any) -> bytes:
        return b"".join(self.write(value) for value in values)

    def _plain(self, value: Any) -> bytes:
        match value:
            case Raw(opcodes):
                return opcodes
            case Call(function, arguments, opcode, state):
                done = self.write(function) + self.write(arguments) + opcode
                return done if state is _EMPTY else done + self.write(state) + b"b"
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int() if 0 <= value < 256:
                return b"K" + bytes([value])
            case int():
                return b"J" + struct.pack("<i", value)
            case float():
                return b"G" + struct.pack(">d", value)
            case bytes():
                return b"B" + struct.pack("<I", len(value)) + value
            case tuple():
                return b"(" + self._all(value) + b"t"
            case list():
                return b"](" + self._all(value) + b"e"
            case set():
                return b"\x8f(" + self._all(sorted(value)) + b"\x90"
            case dict():
                return b"}(" + self._all(part for pair in value.items() for part in pair) + b"u"
        raise TypeError(value)


RECONSTRUCT = Name("torch_utils.persistence", "_reconstruct_persistent_obj")
ORDERED = Call(Name("collections", "OrderedDict"), ())


def persistent(class_name: str, state: Any, version: int = 6) -> Call:
    """An object of a class that carries its source code."""
    return Call(
        RECONSTRUCT,
        (
            {
                "type": "class",
                "version": version,
                "module_src": SOURCE,
                "class_name": class_name,
                "state": state,
            },
        ),
    )


def state(
    parameters: Any = None, buffers: Any = None, modules: Any = None, **attributes: Any
) -> dict[str, Any]:
    """The attributes of a module, as torch keeps them."""
    return {
        "training": False,
        "_parameters": parameters or {},
        "_buffers": buffers or {},
        "_non_persistent_buffers_set": set(),
        "_forward_hooks": ORDERED,
        "_modules": modules or {},
        **attributes,
    }


def storage_bytes(tensor: Tensor) -> bytes:
    """The stream that torch writes for a tensor's storage inside a pickle."""
    storage = tensor.__reduce_ex__(4)[1][0]
    return storage.__reduce__()[1][0]


def stored(
    raw: bytes | Raw, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0
) -> Call:
    """A tensor over the storage in `raw`."""
    storage = Call(Name("torch.storage", "_load_from_bytes"), (raw,))
    return Call(
        Name("torch._utils", "_rebuild_tensor_v2"),
        (storage, offset, size, stride, False, ORDERED),
    )


def tensor(value: Tensor) -> Call:
    """A tensor, as torch pickles it."""
    return stored(
        storage_bytes(value), tuple(value.shape), value.stride(), int(value.storage_offset())
    )


def parameter(value: Tensor) -> Call:
    """A parameter, as torch pickles it."""
    return Call(Name("torch._utils", "_rebuild_parameter"), (tensor(value), False, ORDERED))


def numpy_float(value: float, core: str = "numpy._core") -> Call:
    """A numpy float64, which NVlabs' networks keep as `skip_scale`."""
    kind = Call(
        Name("numpy", "dtype"),
        ("f8", False, True),
        state=(3, "<", None, None, None, -1, -1, 0),
    )
    return Call(Name(f"{core}.multiarray", "scalar"), (kind, struct.pack("<d", value)))


def network(
    class_name: str, init_kwargs: dict[str, Any], tensors: dict[str, Any], **attributes: Any
) -> Call:
    """A network of nested modules, from state-dict names; `resample_filter` etc. are buffers."""
    return persistent(
        class_name,
        {**_modules(tensors), "_init_args": (), "_init_kwargs": init_kwargs, **attributes},
    )


def _modules(tensors: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, dict[str, Any]] = {"_parameters": {}, "_buffers": {}}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in tensors.items():
        head, _, rest = name.partition(".")
        if rest:
            inner.setdefault(head, {})[rest] = value
        elif isinstance(value, Tensor):
            is_buffer = head in ("resample_filter", "freqs", "u")
            own["_buffers" if is_buffer else "_parameters"][head] = (
                tensor(value) if is_buffer else parameter(value)
            )
        else:
            own["_parameters"][head] = value
    modules = {name: _module(name, part) for name, part in inner.items()}
    return state(own["_parameters"], own["_buffers"], modules)


def _module(name: str, tensors: dict[str, Any]) -> Call:
    if name in ("enc", "dec"):  # torch's own ModuleDict, which carries no source
        container = Name("torch.nn.modules.container", "ModuleDict")
        return Call(container, (), b"\x81", _modules(tensors))
    return persistent("UNetBlock", {**_modules(tensors), "skip_scale": numpy_float(0.5**0.5)})


def edm_file(net: Any, **others: Any) -> bytes:
    """A snapshot: the network under `ema`, and what training writes beside it."""
    loss = persistent("EDMLoss", {"P_mean": -1.2, "_init_args": (), "_init_kwargs": {}})
    settings = {"path": "data.zip", "use_labels": True}
    return dump(
        {"ema": net, "loss_fn": loss, "augment_pipe": None, "dataset_kwargs": settings} | others
    )
