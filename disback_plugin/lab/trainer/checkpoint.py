"""Checkpoints of a run: `checkpoints/step_000100/` with safetensors and JSON, whole or not there.

A checkpoint is written into a temporary folder, each file and the folder flushed to disk, the
manifest with every file's SHA-256 and its own last, then renamed; it is renamed back before it is
deleted. So no kill leaves half of one under its name: what is not whole there is damage, and stays.
Nothing is pickled.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from disback_plugin.errors import RunError
from disback_plugin.files import naming, read_tensors, sync, write_json, write_tensors
from disback_plugin.sealed import (
    check_file,
    damage_of,
    fingerprints,
    read_json,
    read_sealed,
    write_sealed,
)

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
        """Write `checkpoint` atomically, then drop the oldest ones beyond `keep`.

        Raises RunError where it is there already, OSError that names it where it cannot be written.
        """
        final = self.folder / f"step_{checkpoint.step:06d}"
        if final.exists():
            raise RunError(
                f"{final} is there, though this run went on from an earlier step: something else "
                "writes into this folder; stop that, and resume"
            )
        temporary = _temporary(final)
        if temporary.exists():
            shutil.rmtree(temporary)
        try:
            with naming(final):
                temporary.mkdir(parents=True)
                _write(checkpoint, temporary)
                temporary.rename(final)
                sync(self.folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the room
            raise
        self._prune()
        return final

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint, None if there is none; RunError naming what of it is damaged."""
        *before, newest = [None, *sorted(self._all(), key=_step_of)]
        if newest is None:
            return None
        other = f"go on from {before[-1].name}" if before[-1] else "start this run again"
        return _load(newest, f"restore it, or delete {newest} to {other}")

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [folder for folder in self.folder.iterdir() if _NAME.fullmatch(folder.name)]

    def _prune(self) -> None:
        """Delete old checkpoints and what kills have left of new ones; nothing that is not ours."""
        for old in sorted(self._all(), key=_step_of)[: -self.keep]:
            try:
                _manifest(old, "")
            except RunError:
                continue
            if not old.is_symlink():
                old.rename(_temporary(old))
        for leftover in self.folder.glob(".step_*.tmp"):
            shutil.rmtree(leftover)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.tmp")


def _write(checkpoint: Checkpoint, folder: Path) -> None:
    for name, tensors in checkpoint.tensors.items():
        write_tensors(folder / f"{name}.safetensors", tensors)
    write_json(folder / "state.json", checkpoint.state)
    files = fingerprints(folder, [file.name for file in folder.iterdir()])
    manifest = {"version": VERSION, "step": checkpoint.step, "files": files}
    write_sealed(folder / "manifest.json", manifest)


def _manifest(folder: Path, advice: str) -> dict[str, Any]:
    """What the manifest says of the files; RunError unless it is whole, and of this folder."""
    file = folder / "manifest.json"
    manifest = read_sealed(file, RunError, advice)
    with damage_of(file, RunError, advice):
        if manifest["version"] != VERSION:
            raise RunError(
                f"{folder} has checkpoint format {manifest['version']}, this version reads"
                f" {VERSION}: resume it with the version that wrote it"
            )
        if manifest["step"] != _step_of(folder):
            raise ValueError(f"it is of step {manifest['step']}, its folder is {folder.name}")
        return dict(manifest["files"])


def _load(folder: Path, advice: str) -> Checkpoint:
    files = _manifest(folder, advice)
    for name in files:
        check_file(folder, name, files, RunError, advice)
    tensors = {
        name.removesuffix(".safetensors"): read_tensors(folder / name, RunError)[0]
        for name in files
        if name.endswith(".safetensors")
    }
    state = read_json(folder / "state.json", RunError, advice)
    return Checkpoint(_step_of(folder), state, tensors)
