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
    Patch,
    PatchError,
    ReplaceCall,
    ReplaceDictValue,
    ReplaceKeyword,
    Returns,
    apply_patches,
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
    patch = Patch(name="p", kind="repair", summary="", edits=edits)
    after = apply_patches({"f.py": SOURCE.encode()}, [patch])["f.py"].decode()
    compile(after, "f.py", "exec")
    return [line.strip() for line in after.splitlines() if line not in SOURCE.splitlines()]


def place(function: str = "Host.make") -> dict[str, str]:
    return {"file": "f.py", "function": function}


@pytest.mark.parametrize(
    ("edit", "lines"),
    [
        (
            Insert(**place(), shape=Assigns("self.right"), where="after", code="one()\ntwo()"),
            ["one()  # disback", "two()  # disback"],
        ),
        (Insert(**place("make"), shape=Returns("args"), where="before", code="x = 1"), None),
        (Insert(**place(""), shape=Imports("three"), where="after", code="import os"), None),
        (
            Insert(
                **place(), shape=Calls("torch.save", first="self.left"), where="before", code="y"
            ),
            ["y  # disback"],
        ),
        (
            ReplaceKeyword(**place(), call="wrap", keyword="scale", code="4", new_keyword="factor"),
            ["self.left, self.right = wrap(one, factor=4)"],
        ),
        (
            AddKeyword(**place("make"), call="wrap", keyword="safe", code="False"),
            ["self.left = wrap(one, scale=2, safe=False)"],
        ),
        (
            ReplaceCall(**place(), call="draw.rgb", code="pixels(draw)[..., :3]"),
            ["torch.save(self.left, pixels(draw)[..., :3])"],
        ),
        (
            ReplaceDictValue(**place(), key="mode", code="mode()"),
            ['log({"mode": mode(), "time": 3})'],
        ),
        (
            AddToDict(**place(), key="time", code="extra()"),
            ['log({"mode": "online", "time": 3, **extra()})'],
        ),
        (
            NarrowIf(**place(), name="self.every", condition="may"),
            ["if (self.step % self.every == 0 or flag) and may:"],
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Edit) else "",
)
def test_an_edit_changes_its_place_only(edit: Edit, lines: list[str] | None) -> None:
    expected = lines or [f"{edit.code}  # disback"]  # type: ignore[attr-defined]
    assert changed(edit) == expected


def test_a_place_found_too_often_is_no_place() -> None:
    edit = ReplaceDictValue(**place(), key="mode", code="1", times=2)
    with pytest.raises(AnchorError, match=r"a dict with the key 'mode', 2 time\(s\), found 1"):
        changed(edit)


def test_functions_of_the_same_name_are_told_apart() -> None:
    edit = Insert(**place("make"), shape=Assigns("self.right"), where="after", code="pass")
    with pytest.raises(AnchorError, match="in make: .* found 0"):
        changed(edit)


def test_files_that_are_missing_or_no_python_are_named() -> None:
    patch = Patch(
        name="p",
        kind="repair",
        summary="",
        edits=(ReplaceCall(**place(), call="a", code="b"),),
    )
    with pytest.raises(PatchError, match=r"f\.py, which is not in this checkout"):
        apply_patches({}, [patch])
    with pytest.raises(PatchError, match=r"f\.py is no valid Python"):
        apply_patches({"f.py": b"def ("}, [patch])
