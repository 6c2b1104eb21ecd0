"""Edits: one change at one place each, found by shape within a function of a file."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, TypeAlias

import libcst as cst

from disback_plugin.patching.shapes import Shape, dotted, mentions

MARK = "# disback"
Result: TypeAlias = "cst.CSTNode | cst.FlattenSentinel[cst.BaseStatement] | None"


@dataclass(frozen=True, kw_only=True)
class Edit(ABC):
    """A change of `file` within `function` (`Class.method`; "" is the module's own level).

    It must find its place exactly `times` times, else nothing of its patch set is applied.
    """

    file: str
    function: str
    times: int = 1

    @property
    @abstractmethod
    def looks_for(self) -> str:
        """The place in words, by names."""

    @abstractmethod
    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        """What takes the node's place, or None where this is not the place."""


def _mark() -> cst.TrailingWhitespace:
    return cst.TrailingWhitespace(whitespace=cst.SimpleWhitespace("  "), comment=cst.Comment(MARK))


def _statements(code: str, module: cst.Module) -> list[cst.BaseStatement]:
    """Our lines as statements, each simple one marked by a comment."""
    statements: list[cst.BaseStatement] = []
    for statement in cst.parse_module(code, config=module.config_for_parsing).body:
        if isinstance(statement, cst.SimpleStatementLine):
            statement = statement.with_changes(trailing_whitespace=_mark())
        statements.append(statement)
    return statements


def guarded(node: cst.SimpleStatementLine | cst.For, condition: str) -> cst.If:
    """The statement run only `if condition`."""
    return cst.If(
        test=cst.parse_expression(condition),
        body=cst.IndentedBlock(header=_mark(), body=[node.with_changes(leading_lines=())]),
        leading_lines=node.leading_lines,
    )


@dataclass(frozen=True, kw_only=True)
class Insert(Edit):
    """Put our `code` before or after a statement."""

    shape: Shape
    where: Literal["before", "after"]
    code: str

    @property
    def looks_for(self) -> str:
        return str(self.shape)

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.SimpleStatementLine) and self.shape.matches(node)):
            return None
        own = _statements(self.code, module)
        return cst.FlattenSentinel([*own, node] if self.where == "before" else [node, *own])


@dataclass(frozen=True, kw_only=True)
class Guard(Edit):
    """Run a statement only `if condition`."""

    shape: Shape
    condition: str

    @property
    def looks_for(self) -> str:
        return str(self.shape)

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.SimpleStatementLine) and self.shape.matches(node)):
            return None
        return guarded(node, self.condition)


@dataclass(frozen=True, kw_only=True)
class AppendTo(Edit):
    """Put our `code` at the end of the function."""

    code: str

    @property
    def looks_for(self) -> str:
        return "the function itself"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.FunctionDef) and isinstance(node.body, cst.IndentedBlock)):
            return None
        body = [*node.body.body, *_statements(self.code, module)]
        return node.with_changes(body=node.body.with_changes(body=body))


@dataclass(frozen=True, kw_only=True)
class ReplaceCall(Edit):
    """Put the expression `code` in place of a call."""

    call: str
    code: str

    @property
    def looks_for(self) -> str:
        return f"a call of {self.call}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if isinstance(node, cst.Call) and dotted(node.func) == self.call:
            return cst.parse_expression(self.code)
        return None


@dataclass(frozen=True, kw_only=True)
class ReplaceKeyword(Edit):
    """Put `keyword=code`, or `new_keyword=code`, in place of a call's keyword argument."""

    call: str
    keyword: str
    code: str
    new_keyword: str | None = None

    @property
    def looks_for(self) -> str:
        return f"a call of {self.call} with the keyword {self.keyword}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.Call) and dotted(node.func) == self.call):
            return None
        if self.keyword not in [dotted(argument.keyword) for argument in node.args]:
            return None
        name, value = self.new_keyword or self.keyword, cst.parse_expression(self.code)
        own = [
            argument.with_changes(keyword=cst.Name(name), value=value)
            if dotted(argument.keyword) == self.keyword
            else argument
            for argument in node.args
        ]
        return node.with_changes(args=own)


@dataclass(frozen=True, kw_only=True)
class AddKeyword(Edit):
    """Add `keyword=code` to a call that does not have it."""

    call: str
    keyword: str
    code: str

    @property
    def looks_for(self) -> str:
        return f"a call of {self.call} without the keyword {self.keyword}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.Call) and dotted(node.func) == self.call):
            return None
        if self.keyword in [dotted(argument.keyword) for argument in node.args]:
            return None
        own = cst.Arg(
            keyword=cst.Name(self.keyword),
            value=cst.parse_expression(self.code),
            equal=cst.AssignEqual(
                whitespace_before=cst.SimpleWhitespace(""),
                whitespace_after=cst.SimpleWhitespace(""),
            ),
        )
        return node.with_changes(args=[*node.args, own])


@dataclass(frozen=True, kw_only=True)
class ReplaceDictValue(Edit):
    """Put the expression `code` in place of a dict display's value under the string `key`."""

    key: str
    code: str

    @property
    def looks_for(self) -> str:
        return f"a dict with the key {self.key!r}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if _key(node) != self.key:
            return None
        return node.with_changes(value=cst.parse_expression(self.code))


@dataclass(frozen=True, kw_only=True)
class AddToDict(Edit):
    """Add `**code` to the dict display that has the string `key`."""

    key: str
    code: str

    @property
    def looks_for(self) -> str:
        return f"a dict with the key {self.key!r}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not isinstance(node, cst.Dict) or self.key not in map(_key, node.elements):
            return None
        own = cst.StarredDictElement(cst.parse_expression(self.code))
        return node.with_changes(elements=[*node.elements, own])


@dataclass(frozen=True, kw_only=True)
class NarrowIf(Edit):
    """Make every `if` whose test uses `name` also ask for `condition`."""

    name: str
    condition: str

    @property
    def looks_for(self) -> str:
        return f"an if that tests {self.name}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.If) and mentions(node.test, self.name)):
            return None
        test = node.test
        if isinstance(test, cst.BooleanOperation | cst.IfExp | cst.Lambda) and not test.lpar:
            test = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        own = cst.BooleanOperation(
            left=test, operator=cst.And(), right=cst.parse_expression(self.condition)
        )
        return node.with_changes(test=own)


def _key(node: cst.CSTNode) -> str | None:
    if isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
        value = node.key.evaluated_value
        return value if isinstance(value, str) else None
    return None
