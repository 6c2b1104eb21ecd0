"""Whatever fails while writing, and for as long as it does: the tree is as it was."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disback_plugin.patching import PatchError
from disback_plugin.patching.replacing import only_writer, replace_all
from tests.patching.test_checkout import FIRST, NAMES, SECOND, open_tree, tree

__all__ = ["tree"]  # the fixture


def everything(tree: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in sorted(tree.rglob("*")):
        content = path.read_bytes() if path.is_file() else b"folder"
        found[str(path.relative_to(tree))] = (path.stat().st_mode, content)
    return found


def no_rename(monkeypatch: pytest.MonkeyPatch, ends: tuple[str, ...]) -> None:
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        if str(target).endswith(ends):
            raise PermissionError(13, "not allowed", str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)


def no_space(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    real = Path.open

    def open_(self: Path, *args: Any, **kwargs: Any) -> Any:
        if part in self.name and "w" in str(args):
            raise OSError(28, "No space left on device", str(self))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_)


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the last file": lambda patch: no_rename(patch, ("b.py",)),
    "the first file": lambda patch: no_rename(patch, ("a.py",)),
    "the ledger": lambda patch: no_rename(patch, ("ledger.json",)),
    "disk full at the last file": lambda patch: no_space(patch, ".b.py.disback"),
    "disk full at the ledger": lambda patch: no_space(patch, "ledger.json"),
    "disk full at an original": lambda patch: no_space(patch, "b.py.orig"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("first", [[], ["close"]], ids=["new", "another choice"])
def test_a_write_that_fails_leaves_the_tree_as_it_was(
    tree: Path, monkeypatch: pytest.MonkeyPatch, failure: str, first: list[str]
) -> None:
    if first:
        open_tree(tree).apply(first)
    before = everything(tree)
    with monkeypatch.context() as patch:
        FAILURES[failure](patch)
        for _ in range(2):
            reason = r"cannot write \S+: (not allowed|No space left.*); nothing was changed"
            with pytest.raises(PatchError, match=reason):
                open_tree(tree).apply(NAMES)
            assert everything(tree) == before
    states = [state.state for state in open_tree(tree).status()]
    assert states == (["applied", "applicable"] if first else ["applicable"] * 2)
    assert open_tree(tree).apply(NAMES) == ["a.py", "sub/b.py"]
    open_tree(tree).revert()
    assert set(everything(tree)) == {"a.py", "sub", "sub/b.py"}


def test_a_revert_that_fails_leaves_the_patches_in(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_tree(tree).apply(NAMES)
    before = everything(tree)
    with monkeypatch.context() as patch:
        no_rename(patch, ("b.py",))
        with pytest.raises(PatchError, match=r"cannot write sub/b\.py: not allowed; nothing"):
            open_tree(tree).revert()
    assert everything(tree) == before
    open_tree(tree).revert()
    assert (tree / "a.py").read_bytes() == FIRST


def test_a_folder_that_cannot_be_made_is_named(tree: Path) -> None:
    (tree / ".disback").write_bytes(b"in the way")
    with pytest.raises(PatchError, match=r"cannot write \.disback/\.gitignore: File exists"):
        open_tree(tree).apply(NAMES)
    assert (tree / "a.py").read_bytes() == FIRST


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
@pytest.mark.parametrize("folder", ["", "sub"])
def test_a_folder_without_write_permission_is_an_error_in_words(tree: Path, folder: str) -> None:
    (tree / folder).chmod(0o555)
    before = everything(tree)
    try:
        with pytest.raises(PatchError, match="Permission denied; nothing was changed"):
            open_tree(tree).apply(NAMES)
        assert everything(tree) == before
    finally:
        (tree / folder).chmod(0o755)


def test_what_cannot_be_put_back_is_named_and_can_still_be_reverted(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, allowed = os.replace, ["a.py"]

    def replace(source: Any, target: Any) -> None:
        name = Path(target).name
        if name == "b.py" or (name == "a.py" and not allowed):
            raise OSError(5, "Input/output error")
        if name == "a.py":
            allowed.clear()
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(PatchError, match=r"cannot write sub/b\.py.*not put back: a\.py, "):
            open_tree(tree).apply(NAMES)
    assert (tree / "a.py").read_bytes() != FIRST
    assert open_tree(tree).revert() == ["a.py", "sub/b.py"]
    assert (tree / "a.py").read_bytes() == FIRST
    assert (tree / "sub/b.py").read_bytes() == SECOND
    assert set(everything(tree)) == {"a.py", "sub", "sub/b.py"}


def test_an_interrupt_is_passed_on_after_putting_back(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def replace(source: Any, target: Any) -> None:
        real(source, target)
        if Path(target).name == "a.py" and "before" not in str(source):
            raise KeyboardInterrupt

    before = everything(tree)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            open_tree(tree).apply(NAMES)
    assert everything(tree) == before


def test_temp_files_of_a_killed_run_are_cleared(tree: Path) -> None:
    (tree / ".a.py.disback-7").write_bytes(b"left")
    replace_all(tree, [("a.py", b"new\n"), ("sub/b.py", None)])
    assert set(everything(tree)) == {"a.py", "sub"}
    assert (tree / "a.py").read_bytes() == b"new\n"


def test_two_commands_do_not_write_one_tree_at_once(tree: Path) -> None:
    before = everything(tree)
    with only_writer(tree):
        for write in (lambda: open_tree(tree).apply(NAMES), lambda: open_tree(tree).revert()):
            with pytest.raises(PatchError, match="is being patched or reverted by another command"):
                write()
        assert everything(tree) == before
    assert open_tree(tree).apply(NAMES)
    assert open_tree(tree).apply([])  # reverts, under the same lock
    assert everything(tree) == before
