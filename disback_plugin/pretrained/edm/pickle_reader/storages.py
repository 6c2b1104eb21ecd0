"""The stream inside each tensor's bytes: torch's format before it used zip, one storage in each.

Five small pickles (magic number, version, byte order, a persistent id that describes the storage,
the storage's key), then the count of numbers (int64) and the numbers themselves.
"""

from typing import Any

import torch

from disback_plugin.errors import CheckpointError
from disback_plugin.pretrained.edm.pickle_reader.machine import Constructor, PickleMachine, refuse
from disback_plugin.pretrained.edm.pickle_reader.records import Storage
from disback_plugin.pretrained.edm.pickle_reader.source import ByteSource, Span

MAGIC = 0x1950A86A20F9469CFC6C
VERSION = 1001
MAX_OPCODES = 200  # of each small pickle; real ones have some 25

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def find_storage_type(name: str) -> Constructor:
    """A storage's type, of CPU or GPU; every other name is refused."""
    module, _, kind = name.rpartition(".")
    if module not in ("torch", "torch.cuda") or kind not in DTYPES:
        raise refuse(name)

    def refuse_call(_: tuple[Any, ...]) -> Any:
        raise refuse(f"a call of {name}")

    return Constructor(kind, refuse_call)


def read_storage(stream_of: Span) -> Storage:
    """The storage that one tensor's bytes describe; its numbers are not read yet."""
    stream, back = stream_of.stream, stream_of.stream.tell()
    try:
        return _parse(ByteSource(stream_of))
    finally:
        stream.seek(back)


def _parse(source: ByteSource) -> Storage:
    def pickle() -> Any:
        return PickleMachine(source, find_storage_type, MAX_OPCODES, lambda said: [said]).run()

    if [pickle(), pickle()] != [MAGIC, VERSION]:
        raise CheckpointError("has a tensor whose bytes are not of torch.save's old format")
    match pickle():
        case {"little_endian": True}:
            pass
        case _:
            raise CheckpointError("was written on a big-endian machine, which is not supported")
    described, keys = pickle(), pickle()
    match described:
        case [("storage", Constructor(name=kind), str(key), str(), int(count), None)]:
            pass
        case _:
            raise CheckpointError("damaged: a tensor's bytes do not describe one storage")
    dtype = DTYPES[kind]
    stored, left = source.number("<q"), source.end - source.position
    if keys != [key] or stored != count or left != count * dtype.itemsize:
        raise CheckpointError(
            f"damaged or truncated: a storage of {count} {kind[:-7]} numbers has {left} bytes"
        )
    return Storage(dtype, source.skip(left))
