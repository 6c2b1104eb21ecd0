"""What is in a folder: digests of all files, and of what can be read as ours."""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from disback_plugin import DegradationPath
from disback_plugin.cli import main
from disback_plugin.errors import DisBackError

Found = dict[str, str]


class RefusedError(DisBackError):
    """A command has ended with an error of ours."""


def command(*words: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    if code:
        raise RefusedError(said.getvalue())


def digest(data: Any) -> str:
    if isinstance(data, dict):
        parts = [f"{name} {digest(value)}" for name, value in sorted(data.items())]
        data = "\n".join(parts).encode()
    if isinstance(data, torch.Tensor):
        data = f"{data.dtype}{tuple(data.shape)}".encode() + data.contiguous().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def everything(folder: Path) -> Found:
    """Every file and folder below scope."""
    return {
        str(file.relative_to(folder)): digest(file.read_bytes()) if file.is_file() else "folder"
        for file in sorted((folder / "scope").rglob("*"))
    }


def read(name: str, work: Callable[[], Any]) -> Found:
    """What was read under that name, nothing where that is an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = work()
    except DisBackError:
        return {}
    return {} if found is None else {name: digest(found)}


def nodes(folder: Path) -> Found:
    """The listed nodes of scope/path; `verify` may tell leftovers, but no damage."""
    try:
        path = DegradationPath.open(folder / "scope" / "path", None)
    except DisBackError:
        return {}
    assert [line for line in path.verify() if "left behind" not in line] == []
    return {entry.file: digest(path.read(entry.index)) for entry in path}
