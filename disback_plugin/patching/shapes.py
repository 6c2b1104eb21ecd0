"""Shapes: how an edit names the place it looks for: names and values, never quoted lines."""

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, TypeGuard

import libcst as cst


def dotted(node: cst.CSTNode | None) -> str | None:
    """`a.b.c` of a chain of names, `super().b` or `a.b().c` with calls; None for anything else."""
    if isinstance(node, cst.Name):
        return node.value
    if isinstance(node, cst.Attribute):
        owner = dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr.value}"
    if isinstance(node, cst.Call):
        called = dotted(node.func)
        return None if called is None else f"{called}()"
    return None


def descendants(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The node and everything below it."""
    yield node
    for child in node.children:
        yield from descendants(child)


def mentions(node: cst.CSTNode, name: str) -> bool:
    """Whether the code uses the dotted name."""
    return any(dotted(part) == name for part in descendants(node))


def is_call(node: cst.CSTNode, name: str) -> TypeGuard[cst.Call]:
    """Whether the node is a call of the dotted name."""
    return isinstance(node, cst.Call) and dotted(node.func) == name


def is_written(node: cst.CSTNode, code: str) -> bool:
    """Whether the node is this expression, whatever its blanks, quotes and line breaks."""
    own = cst.Module([]).code_for_node(node)
    return ast.dump(ast.parse(f"({own})")) == ast.dump(ast.parse(f"({code})"))


class Shape(ABC):
    """What a piece of code must look like; `str()` completes "looked for ..."."""

    words: ClassVar[str]  # a format of `self`

    @abstractmethod
    def matches(self, node: cst.CSTNode) -> bool:
        """Whether the piece of code has this shape."""

    def __str__(self) -> str:
        return self.words.format(self=self)


class Statement(Shape):
    """A statement that code can be put before or after, or that can be guarded by an `if`."""


class Line(Statement):
    """A simple statement, by one of its parts (`a; b` has two)."""

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.SimpleStatementLine) and any(map(self.has, node.body))

    @abstractmethod
    def has(self, part: cst.BaseSmallStatement) -> bool:
        """Whether this part makes the line the one looked for."""


@dataclass(frozen=True)
class Calls(Line):
    """A statement with a call of `name`, if `first` is given with that name as first argument."""

    name: str
    first: str = ""
    words = "a statement that calls {self.name}({self.first}...)"

    def has(self, part: cst.BaseSmallStatement) -> bool:
        calls = [call for call in descendants(part) if is_call(call, self.name)]
        if not self.first:
            return bool(calls)
        return any(call.args and dotted(call.args[0].value) == self.first for call in calls)


@dataclass(frozen=True)
class Assigns(Line):
    """An assignment to `target`, alone or in a tuple."""

    target: str
    words = "an assignment to {self.target}"

    def has(self, part: cst.BaseSmallStatement) -> bool:
        if not isinstance(part, cst.Assign):
            return False
        return any(self.target in _names(target.target) for target in part.targets)


@dataclass(frozen=True)
class Increases(Line):
    """An augmented assignment to `target`: `target += ...`."""

    target: str
    words = "an augmented assignment to {self.target}"

    def has(self, part: cst.BaseSmallStatement) -> bool:
        return isinstance(part, cst.AugAssign) and dotted(part.target) == self.target


@dataclass(frozen=True)
class Imports(Line):
    """An import that binds `name`."""

    name: str
    words = "the import of {self.name}"

    def has(self, part: cst.BaseSmallStatement) -> bool:
        if not isinstance(part, cst.Import | cst.ImportFrom) or isinstance(
            part.names, cst.ImportStar
        ):
            return False
        return self.name in {
            alias.evaluated_alias or alias.evaluated_name.split(".")[0] for alias in part.names
        }


@dataclass(frozen=True)
class Returns(Line):
    """A return of `name`."""

    name: str
    words = "the return of {self.name}"

    def has(self, part: cst.BaseSmallStatement) -> bool:
        return isinstance(part, cst.Return) and dotted(part.value) == self.name


@dataclass(frozen=True)
class Loops(Statement):
    """A `for` loop that uses `name`."""

    name: str
    words = "a for loop that uses {self.name}"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.For) and mentions(node, self.name)


def _names(target: cst.BaseExpression) -> set[str | None]:
    if isinstance(target, cst.Tuple | cst.List):
        return {dotted(element.value) for element in target.elements}
    return {dotted(target)}
