"""A checkout is patched as a whole or not at all, and reverted to the byte."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from disback_plugin.patching import (
    AppendTo,
    Assigns,
    Calls,
    Checkout,
    Guard,
    Insert,
    Patch,
    PatchError,
    feature,
    repair,
)
from disback_plugin.patching.ledger import digest
from disback_plugin.patching.problems import Kind, Problem

FIRST = b"def train():\r\n    # keep me\r\n    step()   # odd  spacing\r\n    return 1\r\n"
SECOND = b"x = 1\ndef save( a,b ):\n\twrite(a)\n"
PATCHES = (
    feature(
        "close",
        "two files",
        Insert("a.py", "train", after=Calls("step"), code="end()"),
        AppendTo("sub/b.py", "save", code="close()"),
    ),
    repair("guard", "only sometimes", Guard("a.py", "train", Calls("step"), condition="may")),
)
NAMES = [patch.name for patch in PATCHES]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_bytes(FIRST)
    (tmp_path / "sub" / "b.py").write_bytes(SECOND)
    (tmp_path / "a.py").chmod(0o755)
    return tmp_path


def open_tree(tree: Path, patches: tuple[Patch, ...] = PATCHES) -> Checkout:
    return Checkout(tree, "Host", patches, {"a.py": digest(FIRST), "sub/b.py": digest(SECOND)})


def files(tree: Path) -> set[str]:
    return {str(file.relative_to(tree)) for file in tree.rglob("*") if file.is_file()}


def test_apply_changes_only_what_it_says_and_revert_restores_every_byte(tree: Path) -> None:
    before = files(tree)
    assert open_tree(tree).apply(NAMES) == ["a.py", "sub/b.py"]
    # line ends, spacing, comments and tabs of the host stay
    assert (tree / "a.py").read_bytes() == (
        b"def train():\r\n    # keep me\r\n    if may:  # disback\r\n        step()"
        b"   # odd  spacing\r\n    end()  # disback\r\n    return 1\r\n"
    )
    assert (tree / "sub/b.py").read_bytes() == SECOND + b"\tclose()  # disback\n"
    assert (tree / "a.py").stat().st_mode & 0o777 == 0o755
    assert open_tree(tree).revert() == ["a.py", "sub/b.py"]
    assert (tree / "a.py").read_bytes() == FIRST
    assert (tree / "sub/b.py").read_bytes() == SECOND
    assert files(tree) == before
    assert open_tree(tree).revert() == []


def test_applying_again_does_nothing_and_another_choice_replaces_the_first(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    once = (tree / "a.py").read_bytes()
    assert open_tree(tree).apply(NAMES) == []
    assert (tree / "a.py").read_bytes() == once
    open_tree(tree).apply(["guard"])
    assert (tree / "sub/b.py").read_bytes() == SECOND
    assert b"end()" not in (tree / "a.py").read_bytes()
    assert [state.state for state in open_tree(tree).status()] == ["applicable", "applied"]
    open_tree(tree).revert()
    assert (tree / "a.py").read_bytes() == FIRST


def test_a_place_that_moved_is_named_and_nothing_is_written(tree: Path) -> None:
    lost = repair("lost", "", Insert("sub/b.py", "save", after=Assigns("self.gone"), code="pass"))
    checkout = open_tree(tree, (*PATCHES, lost))
    with pytest.raises(PatchError, match=r"'lost'.*sub/b\.py.*save.*assignment to self\.gone"):
        checkout.apply([*NAMES, "lost"])
    assert (tree / "a.py").read_bytes() == FIRST
    assert not (tree / ".disback").exists()
    states = checkout.status()
    assert [state.state for state in states] == ["applicable", "applicable", "conflicting"]
    assert "self.gone" in states[2].reason


def test_an_unknown_tree_is_refused_unless_forced(tree: Path) -> None:
    (tree / "a.py").write_bytes(FIRST.replace(b"return 1", b"return 2"))
    with pytest.raises(PatchError) as refused:
        open_tree(tree).apply(NAMES)
    assert str(refused.value) == f"{tree}: you edited a.py; all 2 patches still fit: apply --force"
    assert open_tree(tree).apply(NAMES, force=True) == ["a.py", "sub/b.py"]
    accepted = [Problem(Kind.ACCEPTED, "a.py", "is not the known release's, but was accepted")]
    assert open_tree(tree).differences() == accepted
    # another choice, that leaves the file alone, neither forgets that nor asks again
    only_b = repair("b", "", *PATCHES[0].edits[1:])
    assert open_tree(tree, (*PATCHES, only_b)).apply(["b"]) == ["sub/b.py"]
    assert open_tree(tree).differences() == accepted
    open_tree(tree).revert()
    assert [problem.kind for problem in open_tree(tree).differences()] == [Kind.UNKNOWN]
    assert b"return 2" in (tree / "a.py").read_bytes()


def test_an_edit_where_a_patch_belongs_is_told_with_the_patches_that_do_not_fit(tree: Path) -> None:
    (tree / "a.py").write_bytes(FIRST.replace(b"step()", b"stride()"))
    before = files(tree)
    other = repair("more", "fits", AppendTo("sub/b.py", "save", code="more()"))
    checkout = open_tree(tree, (*PATCHES, other))
    with pytest.raises(PatchError) as refused:
        checkout.apply(["guard", "more"])
    begin, reason, end = str(refused.value).splitlines()
    assert begin == f"{tree}: you edited a.py; 1 of 2 patches still fit, not:"
    assert reason.startswith("  patch 'guard', file a.py, in train: looked for a statement that")
    assert end == "undo the edit there, or leave these repairs out: apply --force --repairs more"
    with pytest.raises(PatchError) as refused:  # a feature cannot be left out
        checkout.apply([*NAMES, "more"])
    assert "1 of 3 patches still fit, not:\n  patch 'close'" in str(refused.value)
    assert str(refused.value).endswith("\nundo the edit there, or use the known release")
    assert files(tree) == before
    assert checkout.apply(["more"], force=True) == ["sub/b.py"]


def test_a_tree_of_another_release_is_not_called_edited(tree: Path) -> None:
    (tree / "a.py").write_bytes(FIRST + b"# 2\n")
    (tree / "sub/b.py").write_bytes(SECOND + b"# 2\n")
    with pytest.raises(PatchError) as refused:
        open_tree(tree).apply(NAMES)
    seen = "a.py, sub/b.py are not the known release's; all 2 patches still fit: apply --force"
    assert str(refused.value) == f"{tree}: {seen}"


def test_line_ends_alone_do_not_make_a_tree_unknown(tree: Path) -> None:
    (tree / "sub/b.py").write_bytes(SECOND.replace(b"\n", b"\r\n"))
    assert open_tree(tree).differences() == []


def test_a_change_after_patching_is_never_lost_silently(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    own = (tree / "a.py").read_bytes() + b"# mine\n"
    (tree / "a.py").write_bytes(own)
    for act in (lambda: open_tree(tree).revert(), lambda: open_tree(tree).apply(NAMES, force=True)):
        with pytest.raises(PatchError, match=r"a\.py was changed after it was patched"):
            act()
        assert (tree / "a.py").read_bytes() == own
    open_tree(tree).revert(force=True)
    assert (tree / "a.py").read_bytes() == FIRST


def test_an_interrupted_apply_is_finished_or_undone(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    (tree / "sub/b.py").write_bytes(SECOND)  # killed before the second file
    assert [state.state for state in open_tree(tree).status()] == ["applicable", "applied"]
    assert open_tree(tree).apply(NAMES) == ["a.py", "sub/b.py"]
    (tree / "sub/b.py").write_bytes(SECOND)
    open_tree(tree).revert()
    assert (tree / "a.py").read_bytes() == FIRST


def test_a_deleted_file_is_named_and_restored_when_forced(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    shutil.rmtree(tree / "sub")
    for act in (lambda: open_tree(tree).revert(), lambda: open_tree(tree).apply(NAMES, force=True)):
        with pytest.raises(PatchError, match=r"sub/b\.py was deleted after.*revert --force"):
            act()
    assert [state.state for state in open_tree(tree).status()] == ["changed", "applied"]
    assert open_tree(tree).revert(force=True) == ["a.py", "sub/b.py"]
    assert (tree / "sub/b.py").read_bytes() == SECOND
    assert files(tree) == {"a.py", "sub/b.py"}


def test_files_that_no_patch_touches_are_part_of_the_known_tree(tree: Path) -> None:
    known = {"a.py": digest(FIRST), "sub/b.py": digest(SECOND), "c.py": digest(b"c = 1\n")}

    def kinds() -> list[tuple[Kind, str]]:
        found = Checkout(tree, "Host", PATCHES, known).differences()
        return [(problem.kind, problem.file) for problem in found]

    assert kinds() == [(Kind.UNKNOWN, "c.py")]  # missing
    (tree / "c.py").write_bytes(b"c = 1\n")
    assert kinds() == []
    (tree / "c.py").write_bytes(b"c = 2\n")
    with pytest.raises(PatchError, match=r": you edited c\.py; all 2 patches still fit: apply --f"):
        Checkout(tree, "Host", PATCHES, known).apply(NAMES)
    Checkout(tree, "Host", PATCHES, known).apply(NAMES, force=True)
    assert kinds() == [(Kind.ACCEPTED, "c.py")]
    (tree / "c.py").write_bytes(b"c = 3\n")  # not what was accepted
    assert kinds() == [(Kind.UNKNOWN, "c.py")]
    Checkout(tree, "Host", PATCHES, known).revert()
    assert (tree / "c.py").read_bytes() == b"c = 3\n"


def test_a_damaged_original_is_noticed_before_it_is_restored(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    (tree / ".disback" / "originals" / "a.py.orig").write_bytes(b"")
    patched = (tree / "a.py").read_bytes()
    with pytest.raises(PatchError, match=r"a\.py\.orig is missing or damaged"):
        open_tree(tree).revert()
    assert (tree / "a.py").read_bytes() == patched


def test_a_patched_tree_without_its_ledger_says_so(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    shutil.rmtree(tree / ".disback")
    checkout = open_tree(tree)
    for act in (
        lambda: checkout.apply(NAMES),
        lambda: checkout.apply(NAMES, force=True),
        lambda: checkout.revert(),
        lambda: checkout.revert(force=True),
    ):
        with pytest.raises(
            PatchError, match=r"is patched, but the folder \.disback is gone"
        ) as caught:
            act()
        # no advice that leads back here
        assert "restore these files from git or the archive" in str(caught.value)
        assert "--force" not in str(caught.value)


def test_the_diff_is_the_one_that_apply_makes(tree: Path) -> None:
    lines = open_tree(tree).diff(["close"]).splitlines()
    changes = [line.rstrip() for line in lines if line[0] in "+-"]
    assert changes == [
        *("--- a/a.py", "+++ b/a.py", "+    end()  # disback"),
        *("--- a/sub/b.py", "+++ b/sub/b.py", "+\tclose()  # disback"),
    ]
    open_tree(tree).apply(NAMES)
    assert [line.rstrip() for line in open_tree(tree).diff(["close"]).splitlines()] == [
        line.rstrip() for line in lines
    ]


def test_no_checkout_and_unknown_patches_are_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(PatchError, match="nowhere is no checkout of Host.*: no such folder"):
        open_tree(tmp_path / "nowhere")
    with pytest.raises(PatchError, match="no checkout of Host"):
        open_tree(tmp_path / "sub")
    with pytest.raises(PatchError, match="did you mean 'close'"):
        open_tree(tree).apply(["clos"])


def test_patches_of_another_release_are_outdated_until_applied_again(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    newer = Guard("a.py", "train", Calls("step"), condition="may_now")
    patches = (PATCHES[0], replace(PATCHES[1], edits=(newer,)))
    states = {state.patch.name: state for state in open_tree(tree, patches).status()}
    assert {name: state.state for name, state in states.items()} == {
        "close": "outdated",
        "guard": "outdated",
    }
    assert states["guard"].reason == (
        "a.py was patched by another release of the plugin: apply again"
    )
    assert open_tree(tree, patches).apply(NAMES) == ["a.py", "sub/b.py"]
    assert [state.state for state in open_tree(tree, patches).status()] == ["applied"] * 2
    open_tree(tree, patches).revert()
    assert (tree / "a.py").read_bytes() == FIRST


def test_a_file_changed_after_it_was_patched_is_shown_so_for_its_patches(tree: Path) -> None:
    open_tree(tree).apply(NAMES)
    (tree / "sub/b.py").write_bytes((tree / "sub/b.py").read_bytes() + b"mine = 1\n")
    states = {state.patch.name: state for state in open_tree(tree).status()}
    assert {name: state.state for name, state in states.items()} == {
        "close": "changed",
        "guard": "applied",
    }
    assert states["close"].reason == (
        "sub/b.py was changed since: undo that, or revert --force drops it"
    )
