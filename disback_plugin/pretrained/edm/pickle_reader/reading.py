"""From a file to an `EDMCheckpoint`: the objects of the pickle, then the network's tensors."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.build import PRECONDITIONINGS
from disback_plugin.pretrained.edm.checkpoint import EDMCheckpoint
from disback_plugin.pretrained.edm.pickle_reader.constructors import AllowList
from disback_plugin.pretrained.edm.pickle_reader.machine import PickleMachine, shown
from disback_plugin.pretrained.edm.pickle_reader.records import Module, StoredTensor
from disback_plugin.pretrained.edm.pickle_reader.source import LONGEST_LINE, ByteSource, Span

MAX_OPCODES = 300_000  # a network of 300 M parameters has some 60,000
MAX_DEPTH = 16  # of modules in modules, and of settings in settings; real ones reach 5
MAX_SETTINGS = 1000  # values in the network's arguments
MAX_CHILDREN = 50_000  # parameters, buffers and modules; a network of 300 M parameters has some 900
# the networks' first parameters, should a file record them by position
POSITIONAL = ("img_resolution", "img_channels", "label_dim", "use_fp16")


def read_edm_pickle(file: str | Path, key: str = "ema") -> EDMCheckpoint:
    """The network under `key` of an NVlabs/edm `.pkl`, without running anything of the file.

    The tensors have the file's names and dtypes. Raises CheckpointError for a file that asks for
    anything but known constructors (naming it), is damaged, or is of another format.
    """
    file = Path(file)
    with file.open("rb") as stream:
        size = file.stat().st_size
        try:
            _check_start(stream.peek(4)[:4])
            source = ByteSource(Span(stream, 0, size))
            objects = PickleMachine(source, AllowList().find, MAX_OPCODES).run()
            return _checkpoint(_network(objects, key), size)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error}") from None


def _check_start(start: bytes) -> None:
    if start == b"PK\x03\x04":
        raise CheckpointError("is a zip archive, as torch.save writes, not one of EDM's pickles")
    if start[:1] != b"\x80":
        raise CheckpointError("is not a pickle (of protocol 2 or above)")


def _network(objects: Any, key: str) -> Module:
    if type(objects) is not dict:
        raise CheckpointError(f"holds one {type(objects).__name__}, not a dictionary with {key!r}")
    if key not in objects:
        has = ", ".join(shown(name) for name in list(objects)[:10])
        raise CheckpointError(f"has no {key!r}; it has {has or 'nothing'}")
    network = objects[key]
    if not isinstance(network, Module):
        raise CheckpointError(f"holds a {type(network).__name__} under {key!r}, not a network")
    if network.class_name not in PRECONDITIONINGS:
        raise CheckpointError(
            f"holds a {shown(network.class_name)} under {key!r}; EDM's networks are "
            f"{', '.join(PRECONDITIONINGS)}"
        )
    return network


def _checkpoint(network: Module, file_size: int) -> EDMCheckpoint:
    stored: dict[str, StoredTensor] = {}
    for name, tensor in _tensors(network, "", set(), iter(range(MAX_CHILDREN)), MAX_DEPTH):
        if not name.isprintable():
            raise CheckpointError(f"has a tensor of the name {shown(name)}")
        if name in stored:
            raise CheckpointError(f"has two tensors {shown(name)!r}")
        stored[name] = tensor
    # each tensor gets memory of its own, and no file may ask for more than it has
    if sum(one.storage.raw.length for one in stored.values()) > file_size:
        raise CheckpointError("has tensors that share storages, no EDM checkpoint does")
    return EDMCheckpoint(
        class_name=network.class_name,
        init_kwargs=_arguments(network),
        tensors={name: tensor.load() for name, tensor in stored.items()},
    )


def _tensors(
    module: Module, prefix: str, seen: set[int], budget: Iterator[int], depth: int
) -> Iterator[tuple[str, StoredTensor]]:
    """Parameters, persistent buffers and those of the modules in it, by their state-dict names."""
    if id(module) in seen or depth == 0:
        raise CheckpointError(f"has the module {shown(prefix[:-1])!r} twice, or in too many others")
    seen.add(id(module))
    hidden = module.hidden()
    for table in ("_parameters", "_buffers", "_modules"):
        for name, value in module.table(table).items():
            path = f"{prefix}{name}"
            if next(budget, None) is None or len(path) > LONGEST_LINE:
                raise CheckpointError("has more modules and tensors, or longer names, than any EDM")
            if value is None or (table == "_buffers" and name in hidden):
                continue
            if table == "_modules" and isinstance(value, Module):
                yield from _tensors(value, f"{path}.", seen, budget, depth - 1)
            elif table != "_modules" and isinstance(value, StoredTensor):
                yield path, value
            else:
                raise CheckpointError(f"has a {type(value).__name__} as {shown(path)!r}")


def _arguments(network: Module) -> dict[str, Any]:
    state = network.state or {}
    match state.get("_init_args"), state.get("_init_kwargs"):
        case tuple(args), dict(kwargs) if len(args) <= len(POSITIONAL):
            budget = iter(range(MAX_SETTINGS))
            return _plain({**dict(zip(POSITIONAL, args, strict=False)), **kwargs}, budget)
    raise CheckpointError("does not tell the arguments that its network was built with")


def _plain(value: Any, budget: Iterator[int], depth: int = MAX_DEPTH) -> Any:
    """Settings as JSON has them; CheckpointError for anything else, or for endless ones."""
    if depth == 0 or next(budget, None) is None:
        raise CheckpointError("has arguments of its network without end")
    if type(value) is dict:
        return {name: _plain(one, budget, depth - 1) for name, one in value.items()}
    if type(value) in (list, tuple):
        return [_plain(one, budget, depth - 1) for one in value]
    if type(value) is str and len(value) > LONGEST_LINE:
        raise CheckpointError(f"has a text of {len(value)} characters among its arguments")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CheckpointError(f"has a {type(value).__name__} among the arguments of its network")
