"""Files of weights that other projects wrote: tensors only, and words for what is none."""

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from disback_plugin.errors import CheckpointError, DisBackError
from disback_plugin.files import read_tensors
from disback_plugin.reading import cut, require_regular, told

ZIP, PICKLE, SAFETENSORS = b"PK\x03\x04", b"\x80", b"{"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6

# how a file begins -> what it is, and what to do; none of them holds weights that we read
_OTHERS = {
    re.compile(rb"version https://git-lfs"): "is a git-lfs pointer that stands for the file: run "
    "`git lfs pull` where it lies, or download the file itself",
    re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE): "is a web page, no file of "
    "weights: download the file itself (on the hub, a link with /resolve/ in place of /blob/)",
    re.compile(rb"\s*[{\[]\s*[\"{}\]]"): "is a JSON text, no file of weights: give the folder, or "
    "the file of weights, that it describes",
    re.compile(rb"\x1f\x8b|\xfd7zXZ|7z\xbc\xaf|Rar!|BZh|\x28\xb5\x2f\xfd"): "is compressed: unpack "
    "it and give what is in it",
    re.compile(rb"GGUF"): "is a GGUF file: give the model's safetensors",
    re.compile(rb"\x89HDF"): "is an HDF5 file: give the model's safetensors",
    re.compile(rb"\x93NUMPY"): "is a numpy array, no file of weights by name",
}


def first_bytes(file: Path, error: type[DisBackError] = CheckpointError) -> bytes:
    """How a regular file begins, 64 bytes; `error` for what is plainly no file of weights."""
    require_regular(file, error)
    try:
        with file.open("rb") as stream:
            start = stream.read(64)
    except OSError as problem:
        raise error(f"{file} cannot be read: {told(problem)}") from None
    if not start:
        raise error(f"{file} is empty: it was not written whole, fetch it anew")
    if is_safetensors(start):  # its first bytes are a number, which may look like anything
        return start
    for pattern, what in _OTHERS.items():
        if pattern.match(start):
            raise error(f"{file} {what}")
    return start


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins so is safetensors: a length, then a header in JSON."""
    return start[8:9] == SAFETENSORS and start[5:8] == b"\0\0\0"


def read_weights(file: Path, error: type[DisBackError] = CheckpointError) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file, or from one that torch.save wrote.

    The content decides, not the name. Nothing in the file is run; torch's newer files are mapped
    from disk. `error`, naming the file and what it is, for anything else.
    """
    start = first_bytes(file, error)
    if is_safetensors(start) or file.suffix == ".safetensors":
        return read_tensors(file, error)[0]
    if not start.startswith((ZIP, LEGACY_TORCH)):
        found = "a pickle" if start.startswith(PICKLE) else "of no known format"
        raise error(f"{file} is {found}: not written by torch.save, and no safetensors file")
    data = _load(file, error)
    if not isinstance(data, dict):
        raise error(f"{file} holds a {type(data).__name__}, not tensors by name")
    for name, value in data.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise error(
                f"{file} is not a flat dict of tensors: {name!r} is a {type(value).__name__}; "
                "give the file of the weights alone"
            )
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise error(f"{file}: tensor {name!r} is sparse or has no numbers")
    size = file.stat().st_size
    if sum(value.nbytes for value in data.values()) > size:  # e.g. by strides of zero
        raise error(f"{file} has tensors of more than its {size:,} bytes: they overlap")
    return dict(data)


def _load(file: Path, error: type[DisBackError]) -> object:
    zipped = _is_whole_zip(file)
    if first_bytes(file, error).startswith(ZIP) and not zipped:
        size = file.stat().st_size
        raise error(f"{file} is incomplete or damaged ({size:,} bytes): fetch it anew")
    try:  # torch's older format cannot be mapped
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as problem:  # damaged bytes surface as almost any exception
        # torch's own words advise to load without weights_only, which would run the file's code
        asked = re.search(r"GLOBAL (\S+)", str(problem))
        reason = f"asks to run {asked[1]}, and only tensors are read" if asked else "is damaged"
        raise error(f"{file} {reason}") from None


def _is_whole_zip(file: Path) -> bool:
    """Whether the archive's end, which torch needs to map it, is there and sound."""
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:
        return False


@contextmanager
def translated(what: str, error: type[DisBackError] = CheckpointError) -> Iterator[None]:
    """Whatever a library raises becomes `error`, "WHAT: why"; our own errors pass.

    A missing package passes too: who asked for it says what to install.
    """
    try:
        yield
    except (DisBackError, ModuleNotFoundError):
        raise
    except Exception as problem:
        why = f"it has no {problem}" if isinstance(problem, KeyError) else told(problem)
        why = " ".join(why.replace("\\t", " ").split())
        if isinstance(problem, OSError) and problem.filename:
            why = f"{cut(problem.filename)}: {why}"
        raise error(f"{what}: {why}") from problem
