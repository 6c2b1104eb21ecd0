"""Edits: one change at one place each, found by shape within a function of a file."""

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeAlias, TypeGuard

import libcst as cst

from disback_plugin.patching.shapes import Shape, Statement, dotted, is_call, is_written, mentions

MARK = "# disback"
EQUAL = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
Result: TypeAlias = "cst.CSTNode | cst.FlattenSentinel[cst.BaseStatement]"


@dataclass(frozen=True)
class Edit(Shape):
    """A change within `function` (`Class.method`; "" is the module's own level) of each `file`.

    As a shape it is that of its place, which must be there exactly `times` times, else nothing of
    its patch set is applied.
    """

    file: str | tuple[str, ...]
    function: str
    times: int = field(default=1, kw_only=True)

    @property
    def files(self) -> tuple[str, ...]:
        """The files it changes."""
        return (self.file,) if isinstance(self.file, str) else self.file

    @abstractmethod
    def change(self, node: Any, module: cst.Module) -> Result:
        """What takes the place of a node that it matches."""


@dataclass(frozen=True)
class CodeEdit(Edit):
    """An edit that brings `code` of ours: statements, or one expression."""

    code: str = field(kw_only=True)

    def expression(self) -> cst.BaseExpression:
        """The code, parsed as one."""
        return cst.parse_expression(self.code)


def mark() -> cst.TrailingWhitespace:
    """The comment at the end of a line of ours."""
    return cst.TrailingWhitespace(whitespace=cst.SimpleWhitespace("  "), comment=cst.Comment(MARK))


def statements(code: str, module: cst.Module) -> list[cst.BaseStatement]:
    """Our lines as statements, each simple one marked by a comment."""
    return [
        statement.with_changes(trailing_whitespace=mark())
        if isinstance(statement, cst.SimpleStatementLine)
        else statement
        for statement in cst.parse_module(code, config=module.config_for_parsing).body
    ]


@dataclass(frozen=True)
class Insert(CodeEdit):
    """Put our `code` after or before a statement, one of the two."""

    _: KW_ONLY
    after: Statement | None = None
    before: Statement | None = None
    words = "{self.place}"

    def __post_init__(self) -> None:
        assert (self.after is None) != (self.before is None), "after or before a statement"

    @property
    def place(self) -> Statement:
        """The statement that it looks for."""
        place = self.after or self.before
        assert place is not None
        return place

    def matches(self, node: cst.CSTNode) -> bool:
        return self.place.matches(node)

    def change(self, node: cst.BaseStatement, module: cst.Module) -> Result:
        own = statements(self.code, module)
        return cst.FlattenSentinel([node, *own] if self.after else [*own, node])


@dataclass(frozen=True)
class Guard(Edit):
    """Run a statement only `if condition`."""

    place: Statement
    _: KW_ONLY
    condition: str
    words = "{self.place}"

    def matches(self, node: cst.CSTNode) -> bool:
        return self.place.matches(node)

    def change(self, node: cst.SimpleStatementLine | cst.For, module: cst.Module) -> Result:
        return cst.If(
            test=cst.parse_expression(self.condition),
            body=cst.IndentedBlock(header=mark(), body=[node.with_changes(leading_lines=())]),
            leading_lines=node.leading_lines,
        )


@dataclass(frozen=True)
class NarrowIf(Edit):
    """Make every `if` whose test uses `name` also ask for `condition`."""

    name: str
    _: KW_ONLY
    condition: str
    words = "an if that tests {self.name}"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.If) and mentions(node.test, self.name)

    def change(self, node: cst.If, module: cst.Module) -> Result:
        test = node.test
        if isinstance(test, cst.BooleanOperation | cst.IfExp | cst.Lambda) and not test.lpar:
            test = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        condition = cst.parse_expression(self.condition)
        return node.with_changes(test=cst.BooleanOperation(test, cst.And(), condition))


@dataclass(frozen=True)
class ReplaceCall(CodeEdit):
    """Put the expression `code` in place of a call, written out: with other arguments it stays."""

    call: str
    words = "the call {self.call}"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Call) and is_written(node, self.call)

    def change(self, node: cst.Call, module: cst.Module) -> Result:
        return self.expression()


@dataclass(frozen=True)
class ReplaceKeyword(CodeEdit):
    """Put `keyword=code`, or `new_keyword=code`, in place of a call's `keyword=value`."""

    call: str
    keyword: str
    value: str
    _: KW_ONLY
    new_keyword: str = ""
    words = "a call of {self.call} with {self.keyword}={self.value}"

    def matches(self, node: cst.CSTNode) -> bool:
        return is_call(node, self.call) and any(
            dotted(argument.keyword) == self.keyword and is_written(argument.value, self.value)
            for argument in node.args
        )

    def change(self, node: cst.Call, module: cst.Module) -> Result:
        name, value = cst.Name(self.new_keyword or self.keyword), self.expression()
        own = [
            argument.with_changes(keyword=name, value=value)
            if dotted(argument.keyword) == self.keyword
            else argument
            for argument in node.args
        ]
        return node.with_changes(args=own)


@dataclass(frozen=True)
class AddKeyword(CodeEdit):
    """Add `keyword=code` to a call that does not have it."""

    call: str
    keyword: str
    words = "a call of {self.call} without the keyword {self.keyword}"

    def matches(self, node: cst.CSTNode) -> bool:
        return is_call(node, self.call) and not _has_keyword(node, self.keyword)

    def change(self, node: cst.Call, module: cst.Module) -> Result:
        own = cst.Arg(self.expression(), keyword=cst.Name(self.keyword), equal=EQUAL)
        return node.with_changes(args=[*node.args, own])


@dataclass(frozen=True)
class ReplaceDictValue(CodeEdit):
    """Put the expression `code` in place of a dict display's `value` under the string `key`."""

    key: str
    value: str
    words = "a dict with the key {self.key!r} and the value {self.value}"

    def matches(self, node: cst.CSTNode) -> bool:
        return _is_entry(node, self.key) and is_written(node.value, self.value)

    def change(self, node: cst.DictElement, module: cst.Module) -> Result:
        return node.with_changes(value=self.expression())


@dataclass(frozen=True)
class AddToDict(CodeEdit):
    """Add `**code` to the dict display that has the string `key`."""

    key: str
    words = "a dict with the key {self.key!r}"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.Dict) and any(_is_entry(e, self.key) for e in node.elements)

    def change(self, node: cst.Dict, module: cst.Module) -> Result:
        own = cst.StarredDictElement(self.expression())
        return node.with_changes(elements=[*node.elements, own])


@dataclass(frozen=True)
class AppendTo(CodeEdit):
    """Put our `code` at the end of the function."""

    words = "the function itself"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.FunctionDef) and isinstance(node.body, cst.IndentedBlock)

    def change(self, node: cst.FunctionDef, module: cst.Module) -> Result:
        body = [*node.body.body, *statements(self.code, module)]
        return node.with_changes(body=node.body.with_changes(body=body))


@dataclass(frozen=True)
class Decorate(CodeEdit):
    """Add the decorator `@code`, the innermost."""

    words = "the function itself"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.FunctionDef)

    def change(self, node: cst.FunctionDef, module: cst.Module) -> Result:
        own = cst.Decorator(self.expression())
        return node.with_changes(decorators=[*node.decorators, own])


@dataclass(frozen=True)
class AddParameter(Edit):
    """Add the parameter `name=default`, the last one."""

    name: str
    _: KW_ONLY
    default: str
    words = "the function itself with parameters, none of them {self.name}"

    def matches(self, node: cst.CSTNode) -> bool:
        if not (isinstance(node, cst.FunctionDef) and node.params.params):
            return False
        return self.name not in [param.name.value for param in node.params.params]

    def change(self, node: cst.FunctionDef, module: cst.Module) -> Result:
        *before, last = node.params.params
        default = cst.parse_expression(self.default)
        own = cst.Param(cst.Name(self.name), default=default, comma=last.comma, equal=EQUAL)
        if before:  # laid out like the others
            last = last.with_changes(comma=before[-1].comma)
        return node.with_changes(params=node.params.with_changes(params=[*before, last, own]))


def _has_keyword(call: cst.Call, keyword: str) -> bool:
    return keyword in [dotted(argument.keyword) for argument in call.args]


def _is_entry(node: cst.CSTNode, key: str) -> TypeGuard[cst.DictElement]:
    """Whether it is what a dict display has under the string `key`."""
    if not (isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString)):
        return False
    return node.key.evaluated_value == key
