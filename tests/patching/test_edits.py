"""Every edit finds its place by shape, in its function only, and as often as it says."""

import pytest

from disback_plugin.patching import (
    AddKeyword,
    AddToDict,
    AnchorError,
    Assigns,
    Calls,
    Edit,
    Imports,
    Insert,
    NarrowIf,
    PatchError,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
    Returns,
    apply_patches,
    feature,
    repair,
)

SOURCE = """\
from a.b import one, two as three
import torch

class Host:
    def make(self):
        self.left, self.right = wrap(one, scale=2)
        log({"mode": "online", "time": 3})
        if self.step % self.every == 0 or flag:
            torch.save(self.left, draw.rgb())
        return args

def make(self):
    self.left = wrap(one, scale=2)
    return args
"""


def changed(*edits: Edit) -> list[str]:
    """The lines that differ, after."""
    after = apply_patches({"f.py": SOURCE.encode()}, [repair("p", "", *edits)])["f.py"].decode()
    compile(after, "f.py", "exec")
    return [line.strip() for line in after.splitlines() if line not in SOURCE.splitlines()]


MAKE = "Host.make"


@pytest.mark.parametrize(
    ("edit", "lines"),
    [
        (
            Insert("f.py", MAKE, after=Assigns("self.right"), code="one()\ntwo()"),
            ["one()  # disback", "two()  # disback"],
        ),
        (Insert("f.py", "make", before=Returns("args"), code="x = 1"), None),
        (Insert("f.py", "", after=Imports("three"), code="import os"), None),
        (
            Insert("f.py", MAKE, before=Calls("torch.save", first="self.left"), code="y"),
            ["y  # disback"],
        ),
        (
            ReplaceKeyword("f.py", MAKE, "wrap", "scale", "2", new_keyword="factor", code="4"),
            ["self.left, self.right = wrap(one, factor=4)"],
        ),
        (
            ReplaceKeyword("f.py", MAKE, "wrap", "scale", "2", code="4"),
            ["self.left, self.right = wrap(one, scale=4)"],
        ),
        (
            AddKeyword("f.py", "make", "wrap", "safe", code="False"),
            ["self.left = wrap(one, scale=2, safe=False)"],
        ),
        (
            ReplaceCall("f.py", MAKE, "draw.rgb( )", code="pixels(draw)[..., :3]"),
            ["torch.save(self.left, pixels(draw)[..., :3])"],
        ),
        (
            ReplaceDictValue("f.py", MAKE, "mode", "'online'", code="mode()"),
            ['log({"mode": mode(), "time": 3})'],
        ),
        (
            AddToDict("f.py", MAKE, "time", code="extra()"),
            ['log({"mode": "online", "time": 3, **extra()})'],
        ),
        (
            NarrowIf("f.py", MAKE, "self.every", condition="may"),
            ["if (self.step % self.every == 0 or flag) and may:"],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Edit) else "",
)
def test_an_edit_changes_its_place_only(edit: Edit, lines: list[str] | None) -> None:
    expected = lines or [f"{edit.code}  # disback"]  # type: ignore[attr-defined]
    assert changed(edit) == expected


@pytest.mark.parametrize(
    ("edit", "wanted"),
    [
        (ReplaceKeyword("f.py", MAKE, "wrap", "scale", "3", code="4"), "wrap with scale=3"),
        (ReplaceCall("f.py", MAKE, "wrap(one, scale=3)", code="4"), r"wrap\(one, scale=3\)"),
        (ReplaceDictValue("f.py", MAKE, "mode", "None", code="4"), "'mode' and the value None"),
    ],
)
def test_what_somebody_changed_is_not_replaced(edit: Edit, wanted: str) -> None:
    with pytest.raises(AnchorError, match=rf"{wanted}, 1 time\(s\), found 0"):
        changed(edit)


def test_a_place_found_too_often_is_no_place() -> None:
    edit = ReplaceDictValue("f.py", MAKE, "mode", '"online"', code="1", times=2)
    with pytest.raises(AnchorError, match=r"the value \"online\", 2 time\(s\), found 1"):
        changed(edit)


def test_functions_of_the_same_name_are_told_apart() -> None:
    edit = Insert("f.py", "make", after=Assigns("self.right"), code="pass")
    with pytest.raises(AnchorError, match="in make: .* found 0"):
        changed(edit)


def test_files_that_are_missing_or_no_python_are_named() -> None:
    patch = repair("p", "", ReplaceCall("f.py", MAKE, "a()", code="b"))
    with pytest.raises(PatchError, match=r"f\.py, which is not in this checkout"):
        apply_patches({}, [patch])
    with pytest.raises(PatchError, match=r"f\.py is no valid Python"):
        apply_patches({"f.py": b"def ("}, [patch])


def test_an_edit_of_several_files_must_find_its_place_in_each() -> None:
    edit = ReplaceCall(("f.py", "g.py"), "make", "wrap(one, scale=2)", code="bare")
    sources = {"f.py": SOURCE.encode(), "g.py": b"def make():\n    wrap(one,scale = 2)\n"}
    patch = feature("p", "", edit)
    assert patch.files == ("f.py", "g.py")
    assert apply_patches(sources, [patch]) == {
        "f.py": SOURCE.encode()[::-1].replace(b"wrap(one, scale=2)"[::-1], b"erab", 1)[::-1],
        "g.py": b"def make():\n    bare\n",
    }
    with pytest.raises(
        AnchorError, match=r"'p', file g\.py, in make: .*the call wrap\(.*\), 1 time"
    ):
        apply_patches({**sources, "g.py": b"def make():\n    pass\n"}, [patch])


@pytest.mark.parametrize("places", [{}, {"after": Returns("a"), "before": Returns("a")}])
def test_an_insertion_has_one_place(places: dict[str, Returns]) -> None:
    with pytest.raises(AssertionError, match="after or before"):
        Insert("f.py", MAKE, **places, code="pass")
