"""`Checkout`: a host's source tree on disk, patched and reverted."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from disback_plugin.config_base import nearest
from disback_plugin.patching.edits import MARK
from disback_plugin.patching.engine import Patch, PatchError, apply_patches
from disback_plugin.patching.fitting import describe_unknown, fitted
from disback_plugin.patching.inside import inside, read
from disback_plugin.patching.ledger import FOLDER, IGNORE, LEDGER, Ledger, digest, original_file
from disback_plugin.patching.problems import SINCE_PATCHING, Kind, Problem, describe
from disback_plugin.patching.replacing import only_writer, replace_all, temps_of


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
        if not root.is_dir():
            raise PatchError(f"{root} is no checkout of {host}: no such folder")
        recorded = self._recorded().originals
        missing = [
            file for file in self.files if file not in recorded and not inside(root, file).exists()
        ]
        if missing:
            raise PatchError(f"{root} is no checkout of {host}: it has no {missing[0]}")

    # -- looking --------------------------------------------------------------------------------
    def differences(self) -> list[Problem]:
        """Why this is not the known tree as it was, or as we patched it; empty if it is."""
        ledger = self._recorded()
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
            missing = "is missing, the known release has it"
            return Problem(Kind.UNKNOWN, file, missing, there=False)
        if MARK.encode() in content:
            gone = "has no original of it" if ledger.originals else "is gone"
            return Problem(Kind.ORPHANED, file, f"is patched, but the folder {FOLDER} {gone}")
        return Problem(Kind.UNKNOWN, file, "is not the known release's")

    def status(self) -> list[PatchState]:
        """Every patch: applied, applicable on top of those before it, or conflicting.

        Outdated: applied, but a file has other contents than these patches give it today. Changed:
        applied, but a file was changed by others since.
        """
        ledger = self._recorded()
        outdated = self._outdated(ledger)
        return [
            self._state(ledger, patch, outdated)
            if why is None
            else PatchState(patch, "conflicting", why)
            for patch, why in fitted(self._originals(), self.patches)
        ]

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
                _text(sources[file]), _text(content), f"a/{file}", f"b/{file}"
            )
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in pieces)

    def leftovers(self) -> list[str]:
        """Files of ours, in the checkout, of a command that was killed; `apply` and `revert` go on.

        A folder .disback without a ledger is one of them.
        """
        ledger = self._recorded()
        own = [IGNORE, LEDGER, *map(original_file, self.files)]
        found = {temp for name in (*self.files, *own) for temp in temps_of(inside(self.root, name))}
        if not ledger.originals and (self.root / FOLDER).is_dir():
            found.add(self.root / FOLDER)
        for file in self.files:
            if file not in ledger.originals:
                found.add(inside(self.root, original_file(file)))
        return sorted(str(file.relative_to(self.root)) for file in found if file.exists())

    # -- changing -------------------------------------------------------------------------------
    def apply(self, names: Sequence[str], force: bool = False) -> list[str]:
        """Make the checkout hold exactly these patches; returns the files that changed.

        Nothing is written unless all of them apply. `force` accepts an unknown tree (never one
        that was changed after patching: that would drop the change).
        """
        with only_writer(self.root):
            return self._apply(names, force)

    def _apply(self, names: Sequence[str], force: bool) -> list[str]:
        ledger, problems = self._recorded(), self.differences()
        passed = {Kind.ACCEPTED, Kind.UNKNOWN} if force else {Kind.ACCEPTED}
        chosen, sources = self._chosen(names), self._originals()
        if refused := [problem for problem in problems if problem.kind not in passed]:
            said = describe(refused)
            if {problem.kind for problem in refused} == {Kind.UNKNOWN} and chosen:
                said = describe_unknown(refused, self.watched, sources, chosen)
            raise PatchError(f"{self.root}: {said}")
        if not chosen:
            return self._revert(force=False)
        self._sweep()
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
        with only_writer(self.root):
            return self._revert(force)

    def _revert(self, force: bool) -> list[str]:
        ledger = self._recorded()
        kinds = {Kind.ORPHANED} if force else {Kind.ORPHANED, *SINCE_PATCHING}
        if refused := [problem for problem in self.differences() if problem.kind in kinds]:
            raise PatchError(f"{self.root}: {describe(refused)}")
        self._sweep()
        if not ledger.originals:
            if (self.root / FOLDER).is_dir():
                Ledger.remove(self.root)
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
            applied=tuple(patch.name for patch in chosen),
            originals={file: now[file] for file in patched},
            patched={file: digest(content) for file, content in patched.items()},
            accepted={
                file: own
                for file, own in now.items()
                if file not in patched and own != self.known.get(file)
            },
        )

    def _originals(self) -> dict[str, bytes]:
        ledger = self._recorded()
        contents = {
            file: ledger.original(self.root, file) if file in ledger.originals else self._read(file)
            for file in self.files
        }
        return {file: content for file, content in contents.items() if content is not None}

    def _read(self, file: str) -> bytes | None:
        return read(self.root, file)

    def _recorded(self) -> Ledger:
        return Ledger.read(self.root, self.files)

    def _sweep(self) -> None:
        """Remove files that a killed command left."""
        for name in self.leftovers():
            try:
                if name != FOLDER:
                    (self.root / name).unlink()
            except OSError as error:
                reason = error.strerror or error
                raise PatchError(f"{self.root}: cannot remove {name}: {reason}") from error

    def _current(self, file: str) -> str:
        content = self._read(file)
        return "" if content is None else digest(content)


def _text(source: bytes) -> list[str]:
    """Its lines for people; what is not UTF-8 is shown escaped."""
    return source.decode(errors="backslashreplace").splitlines(keepends=True)
