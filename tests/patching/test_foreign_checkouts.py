"""A checkout of a stranger, its `.disback` folder included: nothing outside it is touched."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disback_plugin.patching import PatchError
from disback_plugin.patching.inside import MAX_BYTES, inside
from disback_plugin.patching.ledger import digest
from tests.patching.test_checkout import FIRST, NAMES, SECOND, files, open_tree, tree

__all__ = ["tree"]  # the fixture
EVIL = b"theirs\n"


def attempts(tree: Path) -> list[Callable[[], Any]]:
    return [
        lambda: open_tree(tree).revert(),
        lambda: open_tree(tree).revert(force=True),
        lambda: open_tree(tree).apply(NAMES, force=True),
        lambda: open_tree(tree).status(),
        lambda: open_tree(tree).leftovers(),
        lambda: open_tree(tree).diff(NAMES),
    ]


def edit_ledger(tree: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads((tree / ".disback/ledger.json").read_text())
    change(data)
    (tree / ".disback/ledger.json").write_text(json.dumps(data))


@pytest.mark.parametrize("name", ["../mine", "{}", "sub/../../mine", ".git/hooks/x", "c.py"])
def test_only_files_that_the_patches_change_are_written(tree: Path, name: str) -> None:
    mine = tree / "mine"
    mine.write_bytes(b"mine\n")
    checkout = tree / "checkout"
    checkout.mkdir()
    (tree / "a.py").rename(checkout / "a.py")
    (tree / "sub").rename(checkout / "sub")
    open_tree(checkout).apply(NAMES)
    name = name.format(mine)
    stored = checkout / f".disback/originals/{name}.orig"
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(EVIL)
    for part in ("originals", "patched"):
        edit_ledger(checkout, lambda data, part=part: data[part].update({name: digest(EVIL)}))
    patched = (checkout / "a.py").read_bytes()
    for attempt in attempts(checkout):
        with pytest.raises(PatchError, match="which no patch changes: nothing is written"):
            attempt()
    assert mine.read_bytes() == b"mine\n"
    assert (checkout / "a.py").read_bytes() == patched


@pytest.mark.parametrize("name", ["../a", "/a", "x/../../a"])
def test_a_name_that_leads_out_is_no_file_of_the_checkout(tree: Path, name: str) -> None:
    with pytest.raises(PatchError, match="lies outside the checkout"):
        inside(tree, name)


def replace_by(kind: str, target: Path, other: Path) -> None:
    """Put a link to `other`, or something that is no file, in the place of a file or folder."""
    if target.exists():
        target.rename(target.with_name("moved"))
    if kind == "link":
        target.symlink_to(other)
    elif kind == "loop":
        target.symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
    else:
        target.write_bytes(b"#" * (MAX_BYTES + 1))


PLACES = ["a.py", "sub/b.py", ".disback/ledger.json", ".disback/originals/a.py.orig"]


@pytest.mark.parametrize("kind", ["link", "loop", "pipe", "folder", "endless"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_of_its_own_is_refused(tree: Path, place: str, kind: str) -> None:
    open_tree(tree).apply(NAMES)
    other = tree / "other"
    other.write_bytes((tree / place).read_bytes())
    before = other.read_bytes()
    replace_by(kind, tree / place, other)
    reason = {"link": "is a link", "loop": "is a link", "endless": "has more than"}
    for attempt in attempts(tree)[:3]:
        with pytest.raises(PatchError, match=reason.get(kind, "is no regular file")) as caught:
            attempt()
        assert place in str(caught.value)
    assert other.read_bytes() == before


@pytest.mark.parametrize("folder", ["sub", ".disback", ".disback/originals"])
def test_a_folder_that_is_a_link_is_refused(tree: Path, folder: str) -> None:
    open_tree(tree).apply(NAMES)
    replace_by("link", tree / folder, tree / folder / ".." / "moved")
    for attempt in attempts(tree)[:3]:
        with pytest.raises(PatchError, match=f"{folder} is a link"):
            attempt()


DAMAGE = {
    "no JSON": (b"{", "is damaged: Expecting"),
    "no UTF-8": (b"\xff\xfe{}", "is damaged: .*utf"),
    "depth": (b"[" * (MAX_BYTES - 1), "is damaged: maximum recursion"),
    "a number of 5,000 digits": (b'{"format": ' + b"1" * 5000 + b"}", "is damaged: Exceeds"),
    "no object": (b"[1]", "is damaged"),
    "null": (b"null", "is damaged"),
    "empty": (b"", "is damaged: Expecting"),
    "another release": (b'{"format": 2, "steps": []}', "another release: revert with that one"),
    "another key": (b'{"format": 1, "original": {}}', "unknown key 'original'"),
    "another type": (b'{"format": 1, "originals": ["a.py"]}', "is damaged: .*originals"),
    "one list": (b'{"format": 1, "originals": {"a.py": ""}}', "its lists of files differ"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ledger_is_named_with_what_to_do(tree: Path, damage: str) -> None:
    content, message = DAMAGE[damage]
    open_tree(tree).apply(NAMES)
    (tree / ".disback/ledger.json").write_bytes(content)
    for attempt in attempts(tree):
        with pytest.raises(PatchError, match=rf"(?s)ledger\.json .*{message}") as caught:
            attempt()
        assert "revert with" in str(caught.value) or "restore the files" in str(caught.value)


SOURCES = {
    "no UTF-8": (FIRST + b"x = '\xff'\n", "no valid Python"),
    "an unknown encoding": (b"# coding: nope\n" + FIRST, "no valid Python: unknown encoding"),
    "UTF-16": (FIRST.decode().encode("utf-16"), "no valid Python"),
    "zeros": (FIRST + b"\0", "no valid Python"),
    "depth of brackets": (FIRST + b"x = " + b"(" * 50_000 + b")" * 50_000, "no valid Python"),
    "depth of signs": (FIRST + b"x = " + b"-" * 90_000 + b"1\n", "nested too deep"),
    "depth of a sum": (FIRST + b"x = 1" + b"+1" * 900 + b"\n", "nested too deep"),
    "line ends of old Macs": (FIRST.replace(b"\r\n", b"\r"), "cannot be kept byte for byte"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources_that_cannot_be_patched_are_named_and_kept(tree: Path, source: str) -> None:
    content, message = SOURCES[source]
    (tree / "a.py").write_bytes(content)
    with pytest.raises(PatchError, match=rf"a\.py .*{message}"):
        open_tree(tree).apply(NAMES, force=True)
    assert [state.state for state in open_tree(tree).status()] == ["conflicting"] * 2
    assert files(tree) == {"a.py", "sub/b.py"}
    assert (tree / "a.py").read_bytes() == content


def test_other_encodings_are_patched_shown_and_reverted_to_the_byte(tree: Path) -> None:
    content = b"# -*- coding: latin-1 -*-\n# \xe9\n" + FIRST
    (tree / "a.py").write_bytes(content)
    open_tree(tree).apply(NAMES, force=True)
    assert b"\xe9" in (tree / "a.py").read_bytes()
    assert "+    end()  # disback" in open_tree(tree).diff(["close"])
    open_tree(tree).revert()
    assert (tree / "a.py").read_bytes() == content
    assert (tree / "sub/b.py").read_bytes() == SECOND


def test_what_a_killed_command_left_is_shown_and_removed(tree: Path) -> None:
    left = [".a.py.disback-0", "sub/.b.py.disback-before", ".disback"]
    (tree / ".disback/originals").mkdir(parents=True)
    (tree / ".disback/originals/a.py.orig").write_bytes(FIRST)
    for name in left[:2]:
        (tree / name).write_bytes(b"left")
    shown = {*left, ".disback/originals/a.py.orig"}
    assert set(open_tree(tree).leftovers()) == shown
    (tree / ".a.py.disback-mine").write_bytes(b"no name of ours")
    assert set(open_tree(tree).leftovers()) == shown
    assert open_tree(tree).revert() == []
    assert files(tree) == {"a.py", "sub/b.py", ".a.py.disback-mine"}
    assert open_tree(tree).leftovers() == []
