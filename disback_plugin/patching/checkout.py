"""`Checkout`: a host's source tree on disk, patched and reverted."""

import difflib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from disback_plugin.config_base import nearest
from disback_plugin.patching.edits import MARK
from disback_plugin.patching.engine import Patch, PatchError, apply_patches
from disback_plugin.patching.ledger import FOLDER, Ledger, digest


@dataclass(frozen=True)
class PatchState:
    """A patch in a checkout; `reason` says why it conflicts."""

    patch: Patch
    state: Literal["applied", "applicable", "conflicting"]
    reason: str = ""


class Checkout:
    """A source tree, known by the contents of the files that any patch touches.

    `known` maps each of them to its hash in the release that the patches were written for.
    """

    def __init__(self, root: Path, host: str, patches: Sequence[Patch], known: Mapping[str, str]):
        self.root, self.host, self.patches, self.known = root, host, tuple(patches), dict(known)
        self.files = sorted({file for patch in patches for file in patch.files})
        missing = [file for file in self.files if not (root / file).is_file()]
        if missing:
            raise PatchError(f"{root} is no checkout of {host}: it has no {missing[0]}")

    # -- looking --------------------------------------------------------------------------------
    def differences(self) -> list[str]:
        """Why this is not the known tree as it was, or as we patched it; empty if it is."""
        ledger, found = Ledger.read(self.root), []
        for file in self.files:
            content = (self.root / file).read_bytes()
            own = digest(content)
            if file in ledger.originals:
                if own not in (ledger.originals[file], ledger.patched[file]):
                    found.append(f"{file} was changed after it was patched")
            elif own != self.known.get(file):
                gone = MARK.encode() in content
                found.append(
                    f"{file} is patched, but the folder {FOLDER} is gone"
                    if gone
                    else f"{file} is not the known release's"
                )
        return found

    def status(self) -> list[PatchState]:
        """Every patch: applied, applicable on top of those before it, or conflicting."""
        ledger, sources = Ledger.read(self.root), self._originals()
        states = []
        for patch in self.patches:
            try:
                sources |= apply_patches(sources, [patch])
            except PatchError as error:
                states.append(PatchState(patch, "conflicting", str(error)))
                continue
            applied = patch.name in ledger.applied and self._on_disk(ledger, patch)
            states.append(PatchState(patch, "applied" if applied else "applicable"))
        return states

    def diff(self, names: Sequence[str]) -> str:
        """Unified diff from the originals to the originals with these patches."""
        sources = self._originals()
        pieces: list[str] = []
        for file, content in sorted(apply_patches(sources, self._chosen(names)).items()):
            pieces += difflib.unified_diff(
                sources[file].decode().splitlines(keepends=True),
                content.decode().splitlines(keepends=True),
                f"a/{file}",
                f"b/{file}",
            )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in pieces)

    # -- changing -------------------------------------------------------------------------------
    def apply(self, names: Sequence[str], force: bool = False) -> list[str]:
        """Make the checkout hold exactly these patches; returns the files that changed.

        Nothing is written unless all of them apply. `force` accepts an unknown tree (never one
        that was changed after patching: that would drop the change).
        """
        ledger, problems = Ledger.read(self.root), self.differences()
        changed = [problem for problem in problems if "not the known" not in problem]
        if changed or (problems and not force):
            advice = (
                "undo that change, or drop it by reverting with --force"
                if changed
                else "use the known release, or --force to look for the places all the same"
            )
            raise PatchError(f"{self.root}: {'; '.join(changed or problems)}: {advice}")
        chosen, sources = self._chosen(names), self._originals()
        patched = apply_patches(sources, chosen)
        wanted = Ledger(
            [patch.name for patch in chosen],
            {file: digest(sources[file]) for file in patched},
            {file: digest(content) for file, content in patched.items()},
        )
        if wanted == ledger and all(
            self._current(file) == wanted.patched[file] for file in patched
        ):
            return []
        if ledger.originals:
            self.revert()
        wanted.write(self.root, {file: sources[file] for file in patched})
        self._write(patched, fallback=sources)
        return sorted(patched)

    def revert(self, force: bool = False) -> list[str]:
        """Restore the exact bytes from before; returns the restored files.

        Refuses where a file was changed after it was patched, unless forced.
        """
        ledger = Ledger.read(self.root)
        changed = [problem for problem in self.differences() if "not the known" not in problem]
        if changed and not (force and ledger.originals):
            raise PatchError(f"{self.root}: {'; '.join(changed)}: --force drops such a change")
        originals = {file: ledger.original(self.root, file) for file in ledger.originals}
        self._write(originals, fallback={})
        if ledger.originals:
            Ledger.remove(self.root)
        return sorted(originals)

    # -- helpers --------------------------------------------------------------------------------
    def _chosen(self, names: Sequence[str]) -> list[Patch]:
        valid = [patch.name for patch in self.patches]
        for name in names:
            if name not in valid:
                raise PatchError(f"unknown patch {name!r}; {nearest(name, valid)}")
        return [patch for patch in self.patches if patch.name in names]

    def _originals(self) -> dict[str, bytes]:
        ledger = Ledger.read(self.root)
        return {
            file: ledger.original(self.root, file)
            if file in ledger.originals
            else (self.root / file).read_bytes()
            for file in self.files
        }

    def _current(self, file: str) -> str:
        return digest((self.root / file).read_bytes())

    def _on_disk(self, ledger: Ledger, patch: Patch) -> bool:
        return all(self._current(file) == ledger.patched.get(file) for file in patch.files)

    def _write(self, contents: Mapping[str, bytes], fallback: Mapping[str, bytes]) -> None:
        written: list[str] = []
        try:
            for file, content in contents.items():
                written.append(file)
                _replace(self.root / file, content)
        except OSError as error:
            for file in written:
                if file in fallback:
                    _replace(self.root / file, fallback[file])
            raise PatchError(f"{self.root}: cannot write {written[-1]}: {error}") from error


def _replace(file: Path, content: bytes) -> None:
    """Replace a file's bytes atomically; its mode stays."""
    temp = file.with_name(f".{file.name}.disback")
    temp.write_bytes(content)
    shutil.copymode(file, temp)
    os.replace(temp, file)
