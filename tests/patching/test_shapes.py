"""Names of places, also through calls."""

import libcst as cst
import pytest

from disback_plugin.patching import Calls
from disback_plugin.patching.shapes import dotted


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("a.b.c", "a.b.c"),
        ("a.b(x, y=1).c", "a.b().c"),
        ("super().__init__", "super().__init__"),
        ("a.b(x)", "a.b()"),
        ("a[0].b", None),
        ("(a + b)()", None),
    ],
)
def test_a_chain_of_names_and_calls_has_a_name(code: str, name: str | None) -> None:
    assert dotted(cst.parse_expression(code)) == name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("wrapper.unwrap(model).off()", True),
        ("model.off()", False),
        ("wrapper.unwrap(model)", False),
        ("wrapper.unwrap(model).off", False),
    ],
)
def test_a_call_on_what_a_call_returns_is_found(code: str, found: bool) -> None:
    line = cst.ensure_type(cst.parse_statement(code), cst.SimpleStatementLine)
    assert Calls("wrapper.unwrap().off").matches(line) is found


def test_calls_are_told_apart_by_a_first_argument_that_is_a_call() -> None:
    shape = Calls("clip", first="student.parameters()")
    for code, found in (
        ("clip(student.parameters(), 1)", True),
        ("clip(other.parameters())", False),
    ):
        line = cst.ensure_type(cst.parse_statement(code), cst.SimpleStatementLine)
        assert shape.matches(line) is found
