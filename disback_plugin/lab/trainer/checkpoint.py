"""Checkpoints of a run: `checkpoints/step_000100/` with safetensors and JSON, whole or not there.

A checkpoint is written into a temporary folder, each file and the folder flushed to disk, the
manifest with every file's SHA-256 last, then renamed. Nothing is pickled.
"""

import json
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.errors import RunError
from disback_plugin.files import read_tensors, sha256, sync, write_json, write_tensors

VERSION = 1
_NAME = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on after `step` steps: plain data and named groups of tensors."""

    step: int
    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class CheckpointFolder:
    """The newest `keep` checkpoints of one run."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write `checkpoint` atomically, then drop the oldest ones beyond `keep`."""
        final = self.folder / f"step_{checkpoint.step:06d}"
        temporary = self.folder / f".{final.name}.tmp"
        for leftover in (temporary, final):  # `final` exists only as a torn one: see latest()
            if leftover.exists():
                shutil.rmtree(leftover)
        temporary.mkdir(parents=True)
        for name, tensors in checkpoint.tensors.items():
            write_tensors(temporary / f"{name}.safetensors", tensors)
        write_json(temporary / "state.json", checkpoint.state)
        files = {file.name: _fingerprint(file) for file in sorted(temporary.iterdir())}
        manifest = {"version": VERSION, "step": checkpoint.step, "files": files}
        write_json(temporary / "manifest.json", manifest)
        temporary.rename(final)
        sync(self.folder)
        self._prune()
        return final

    def latest(self) -> Checkpoint | None:
        """The newest whole checkpoint, None if there is none.

        A torn one (no manifest, a file missing or cut short) is skipped with a warning. A file of
        the right size with other bytes is damage, not a kill: RunError naming it.
        """
        for folder in sorted(self._all(), key=_step_of, reverse=True):
            reason = _torn(folder)
            if reason is None:
                return _load(folder)
            warnings.warn(f"checkpoint {folder} is incomplete ({reason}); skipped", stacklevel=2)
        return None

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [folder for folder in self.folder.iterdir() if _NAME.fullmatch(folder.name)]

    def _prune(self) -> None:
        whole = sorted((f for f in self._all() if _torn(f) is None), key=_step_of)
        for old in set(self._all()) - set(whole[-self.keep :]):
            shutil.rmtree(old)
        for leftover in self.folder.glob(".step_*.tmp"):
            shutil.rmtree(leftover)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _fingerprint(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": sha256(file)}


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def _torn(folder: Path) -> str | None:
    """Why a checkpoint is not whole, judged by its manifest and file sizes; None if it is."""
    try:
        files = _manifest(folder)["files"]
    except (OSError, json.JSONDecodeError):
        return "no readable manifest.json"
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != expected["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {expected['bytes']}"
    return None


def _load(folder: Path) -> Checkpoint:
    manifest = _manifest(folder)
    if manifest["version"] != VERSION:
        raise RunError(
            f"{folder} has checkpoint format {manifest['version']}, this version reads {VERSION}:"
            " resume it with the version that wrote it"
        )
    for name, expected in manifest["files"].items():
        if _fingerprint(folder / name) != expected:
            raise RunError(
                f"{folder / name} is damaged: its SHA-256 differs from the manifest's. Delete"
                f" {folder} to resume from the checkpoint before it"
            )
    names = [name for name in manifest["files"] if name.endswith(".safetensors")]
    tensors = {
        name.removesuffix(".safetensors"): read_tensors(folder / name, RunError)[0]
        for name in names
    }
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return Checkpoint(manifest["step"], state, tensors)
