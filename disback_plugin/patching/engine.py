"""Applies patches to sources in memory: all of them, or an error and nothing."""

import ast
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import libcst as cst

from disback_plugin.errors import DisBackError
from disback_plugin.patching.edits import Edit


class PatchError(DisBackError):
    """A checkout cannot be patched or reverted as asked."""


class AnchorError(PatchError):
    """The place a patch looks for is not there, or not as often as it should be."""


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Edits that belong together. `repair`s can be chosen one by one; `feature`s come together."""

    name: str
    kind: Literal["feature", "repair"]
    summary: str
    edits: tuple[Edit, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """The files it changes, relative to the checkout."""
        return tuple(sorted({file for edit in self.edits for file in edit.files}))


def repair(name: str, summary: str, *edits: Edit) -> Patch:
    """What keeps a host from running, mended."""
    return Patch(name=name, kind="repair", summary=summary, edits=edits)


def feature(name: str, summary: str, *edits: Edit) -> Patch:
    """A part of `--disback`."""
    return Patch(name=name, kind="feature", summary=summary, edits=edits)


class _Walker(cst.CSTTransformer):
    """Offers every node of the edit's function to the edit, innermost first."""

    def __init__(self, edit: Edit, module: cst.Module) -> None:
        super().__init__()
        self.edit, self.module = edit, module
        self.found = 0
        self._scope: list[str] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.ClassDef | cst.FunctionDef):
            self._scope.append(node.name.value)
            # other functions are passed over: walking them costs most of the time
            return f"{self.edit.function}.".startswith(f"{'.'.join(self._scope)}.")
        return True

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        here = ".".join(self._scope) == self.edit.function
        if isinstance(original_node, cst.ClassDef | cst.FunctionDef):
            self._scope.pop()
        if not (here and self.edit.matches(updated_node)):
            return updated_node
        self.found += 1
        return self.edit.change(updated_node, self.module)


def _apply_edit(module: cst.Module, edit: Edit, file: str, patch: Patch) -> cst.Module:
    walker = _Walker(edit, module)
    changed = module.visit(walker)
    if walker.found != edit.times:
        where = edit.function or "the module's own level"
        raise AnchorError(
            f"patch {patch.name!r}, file {file}, in {where}: looked for {edit}, "
            f"{edit.times} time(s), found {walker.found}; the file is not the one this patch was "
            "written for"
        )
    return changed


def apply_patches(sources: Mapping[str, bytes], patches: Sequence[Patch]) -> dict[str, bytes]:
    """The changed files (relative path -> bytes); files that no patch touches are left out.

    Raises PatchError for a file that is missing or no Python, AnchorError where a place moved.
    """
    modules: dict[str, cst.Module] = {}
    file = ""
    try:
        for patch in patches:
            for edit in patch.edits:
                for file in edit.files:
                    if file not in modules:
                        modules[file] = _parse(sources, file, patch)
                    modules[file] = _apply_edit(modules[file], edit, file, patch)
        return {file: module.bytes for file, module in modules.items()}
    except RecursionError:
        raise PatchError(f"{file} is no file that these patches know: nested too deep") from None


def _parse(sources: Mapping[str, bytes], file: str, patch: Patch) -> cst.Module:
    if file not in sources:
        raise PatchError(f"patch {patch.name!r} changes {file}, which is not in this checkout")
    source, what = sources[file], f"patch {patch.name!r}: {file}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)  # has limits of depth, where libcst ends the process
        module = cst.parse_module(source)
    except (SyntaxError, ValueError, MemoryError, cst.ParserSyntaxError) as error:
        reason = "nested too deep" if isinstance(error, MemoryError) else str(error)
        raise PatchError(f"{what} is no valid Python: {reason}") from None
    if module.bytes != source:  # line ends of old Macs become others
        raise PatchError(f"{what} cannot be kept byte for byte: give it the line ends of Unix")
    return module
