"""Snapshots of NVlabs/edm as the tests of the reader need them, whole, tiny and odd."""

from pathlib import Path
from typing import Any

import torch

from disback_plugin.lab.smoke.pickles import (
    Call,
    Raw,
    Writer,
    dump,
    network,
)


def small_pickles(kind: Any = None, key: str = "1", count: int = 4, **sys_info: Any) -> bytes:
    """The five pickles before a storage's numbers; `kind` is the storage's type."""
    kind = kind or Raw(b"ctorch.cuda\nFloatStorage\n")
    info = {"protocol_version": 1001, "little_endian": True, **sys_info}
    magic = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    described = Raw(Writer().write(("storage", kind, key, "cuda:0", count, None)) + b"Q")
    return b"".join(dump(one, 2) for one in (Raw(magic), 1001, info, described, [key]))


def write(folder: Path, data: bytes) -> Path:
    """A snapshot of these bytes."""
    file = folder / "snapshot.pkl"
    file.write_bytes(data)
    return file


TINY_KWARGS = {"img_resolution": 8, "img_channels": 3, "model_type": "SongUNet"}


def tiny(**tensors: Any) -> Call:
    """An EDMPrecond of a few tensors: what the reader sees, not what a network needs."""
    weights = {"model.weight": torch.arange(4.0), "model.enc.8x8_conv.bias": torch.ones(2)}
    return network("EDMPrecond", TINY_KWARGS, {**weights, **tensors})
