"""`Checkout`: a host's source tree on disk, patched and reverted."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from disback_plugin.config_base import nearest
from disback_plugin.patching.edits import MARK
from disback_plugin.patching.engine import Patch, PatchError, apply_patches
from disback_plugin.patching.ledger import FOLDER, LEDGER, Ledger, digest, original_file
from disback_plugin.patching.problems import SINCE_PATCHING, Kind, Problem, describe
from disback_plugin.patching.replacing import replace_all


@dataclass(frozen=True)
class PatchState:
    """A patch in a checkout; `reason` says why it is neither applied nor applicable."""

    patch: Patch
    state: Literal["applied", "applicable", "conflicting", "outdated", "changed"]
    reason: str = ""


class Checkout:
    """A source tree, known by the contents of the files that any patch touches or relies on.

    `known` maps each of them to its hash in the release that the patches were written for.
    """

    def __init__(self, root: Path, host: str, patches: Sequence[Patch], known: Mapping[str, str]):
        self.root, self.host, self.patches, self.known = root, host, tuple(patches), dict(known)
        self.files = sorted({file for patch in patches for file in patch.files})
        self.watched = sorted({*self.files, *self.known})
        recorded = Ledger.read(root).originals
        missing = [
            file for file in self.files if file not in recorded and not (root / file).is_file()
        ]
        if missing:
            raise PatchError(f"{root} is no checkout of {host}: it has no {missing[0]}")

    # -- looking --------------------------------------------------------------------------------
    def differences(self) -> list[Problem]:
        """Why this is not the known tree as it was, or as we patched it; empty if it is."""
        ledger = Ledger.read(self.root)
        found = [self._problem(ledger, file) for file in self.watched]
        return [problem for problem in found if problem is not None]

    def _problem(self, ledger: Ledger, file: str) -> Problem | None:
        content = self._read(file)
        own = "" if content is None else digest(content)
        patched = file in ledger.originals
        if patched and content is None:
            return Problem(Kind.DELETED, file, "was deleted after it was patched")
        if patched and own not in (ledger.originals[file], ledger.patched[file]):
            return Problem(Kind.CHANGED, file, "was changed after it was patched")
        if (ledger.originals[file] if patched else own) == self.known.get(file):
            return None
        if patched or ledger.accepted.get(file) == own:
            return Problem(Kind.ACCEPTED, file, "is not the known release's, but was accepted")
        if content is None:
            return Problem(Kind.UNKNOWN, file, "is missing, the known release has it")
        if MARK.encode() in content:
            gone = "has no original of it" if ledger.originals else "is gone"
            return Problem(Kind.ORPHANED, file, f"is patched, but the folder {FOLDER} {gone}")
        return Problem(Kind.UNKNOWN, file, "is not the known release's")

    def status(self) -> list[PatchState]:
        """Every patch: applied, applicable on top of those before it, or conflicting.

        Outdated: applied, but a file has other contents than these patches give it today. Changed:
        applied, but a file was changed by others since.
        """
        ledger, sources = Ledger.read(self.root), self._originals()
        outdated = self._outdated(ledger)
        states = []
        for patch in self.patches:
            try:
                sources |= apply_patches(sources, [patch])
            except PatchError as error:
                states.append(PatchState(patch, "conflicting", str(error)))
            else:
                states.append(self._state(ledger, patch, outdated))
        return states

    def _state(self, ledger: Ledger, patch: Patch, outdated: set[str]) -> PatchState:
        """That of a patch which finds its places."""
        if patch.name not in ledger.applied:
            return PatchState(patch, "applicable")
        now = {file: self._current(file) for file in patch.files}
        for file, own in now.items():
            if own not in (ledger.originals.get(file), ledger.patched.get(file)):
                reason = f"{file} was changed since: undo that, or revert --force drops it"
                return PatchState(patch, "changed", reason)
        if any(own != ledger.patched.get(file) for file, own in now.items()):
            return PatchState(patch, "applicable")  # an apply was cut short
        for file in patch.files:
            if file in outdated:
                reason = f"{file} was patched by another release of the plugin: apply again"
                return PatchState(patch, "outdated", reason)
        return PatchState(patch, "applied")

    def _outdated(self, ledger: Ledger) -> set[str]:
        """Files that the applied patches would make differently today."""
        applied = [patch for patch in self.patches if patch.name in ledger.applied]
        try:
            fresh = apply_patches(self._originals(), applied)
        except PatchError:
            return set()  # the patch is reported as conflicting
        return {file for file in fresh if digest(fresh[file]) != ledger.patched.get(file)}

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
        passed = {Kind.ACCEPTED, Kind.UNKNOWN} if force else {Kind.ACCEPTED}
        if refused := [problem for problem in problems if problem.kind not in passed]:
            raise PatchError(f"{self.root}: {describe(refused)}")
        chosen, sources = self._chosen(names), self._originals()
        if not chosen:
            return self.revert()
        patched = apply_patches(sources, chosen)
        wanted = self._ledger(chosen, sources, patched)
        on_disk = all(self._current(file) == wanted.patched[file] for file in patched)
        if wanted == ledger and on_disk:
            return []
        # killed at any point, each file is the original or the one in the ledger on disk
        replace_all(
            self.root,
            [
                *((file, sources[file]) for file in ledger.originals),
                *wanted.contents({file: sources[file] for file in patched}).items(),
                *patched.items(),
                *((original_file(file), None) for file in ledger.originals if file not in patched),
            ],
        )
        return sorted(patched)

    def revert(self, force: bool = False) -> list[str]:
        """Restore the exact bytes from before; returns the restored files.

        Refuses where a file was changed or deleted after it was patched, unless forced.
        """
        ledger = Ledger.read(self.root)
        kinds = {Kind.ORPHANED} if force else {Kind.ORPHANED, *SINCE_PATCHING}
        if refused := [problem for problem in self.differences() if problem.kind in kinds]:
            raise PatchError(f"{self.root}: {describe(refused)}")
        if not ledger.originals:
            return []
        originals = {file: ledger.original(self.root, file) for file in ledger.originals}
        replace_all(self.root, [*originals.items(), (LEDGER, None)])
        Ledger.remove(self.root)
        return sorted(originals)

    # -- helpers --------------------------------------------------------------------------------
    def _chosen(self, names: Sequence[str]) -> list[Patch]:
        valid = [patch.name for patch in self.patches]
        for name in names:
            if name not in valid:
                raise PatchError(f"unknown patch {name!r}; {nearest(name, valid)}")
        return [patch for patch in self.patches if patch.name in names]

    def _ledger(
        self, chosen: Sequence[Patch], sources: Mapping[str, bytes], patched: Mapping[str, bytes]
    ) -> Ledger:
        now = {
            file: digest(sources[file]) if file in sources else self._current(file)
            for file in self.watched
        }
        return Ledger(
            [patch.name for patch in chosen],
            {file: now[file] for file in patched},
            {file: digest(content) for file, content in patched.items()},
            {
                file: own
                for file, own in now.items()
                if file not in patched and own != self.known.get(file)
            },
        )

    def _originals(self) -> dict[str, bytes]:
        ledger = Ledger.read(self.root)
        contents = {
            file: ledger.original(self.root, file) if file in ledger.originals else self._read(file)
            for file in self.files
        }
        return {file: content for file, content in contents.items() if content is not None}

    def _read(self, file: str) -> bytes | None:
        """Its bytes; None where it is missing."""
        try:
            return (self.root / file).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or error
            raise PatchError(f"{self.root}: cannot read {file}: {reason}") from error

    def _current(self, file: str) -> str:
        content = self._read(file)
        return "" if content is None else digest(content)
