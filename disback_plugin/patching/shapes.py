"""Shapes: how a patch names the statement it looks for, by names, never by quoting its text."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

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
    """Whether an expression uses the dotted name."""
    return any(dotted(part) == name for part in descendants(node))


class Shape(ABC):
    """What a simple statement must look like; `str()` completes "looked for ..."."""

    @abstractmethod
    def matches(self, line: cst.SimpleStatementLine) -> bool:
        """Whether the statement has this shape."""


@dataclass(frozen=True)
class Calls(Shape):
    """A statement with a call of `name`, if `first` is given with that name as first argument."""

    name: str
    first: str | None = None

    def matches(self, line: cst.SimpleStatementLine) -> bool:
        return any(isinstance(part, cst.Call) and self._is(part) for part in descendants(line))

    def _is(self, call: cst.Call) -> bool:
        if dotted(call.func) != self.name:
            return False
        return self.first is None or (bool(call.args) and dotted(call.args[0].value) == self.first)

    def __str__(self) -> str:
        return f"a statement that calls {self.name}({self.first or ''}...)"


@dataclass(frozen=True)
class Assigns(Shape):
    """An assignment to `target`, alone or in a tuple."""

    target: str

    def matches(self, line: cst.SimpleStatementLine) -> bool:
        for part in line.body:
            if isinstance(part, cst.Assign):
                for target in part.targets:
                    if self.target in _names(target.target):
                        return True
        return False

    def __str__(self) -> str:
        return f"an assignment to {self.target}"


@dataclass(frozen=True)
class Increases(Shape):
    """An augmented assignment to `target`: `target += ...`."""

    target: str

    def matches(self, line: cst.SimpleStatementLine) -> bool:
        return any(
            isinstance(part, cst.AugAssign) and dotted(part.target) == self.target
            for part in line.body
        )

    def __str__(self) -> str:
        return f"an augmented assignment to {self.target}"


@dataclass(frozen=True)
class Imports(Shape):
    """An import that binds `name`."""

    name: str

    def matches(self, line: cst.SimpleStatementLine) -> bool:
        for part in line.body:
            if isinstance(part, cst.Import | cst.ImportFrom) and not isinstance(
                part.names, cst.ImportStar
            ):
                for alias in part.names:
                    bound = alias.evaluated_alias or alias.evaluated_name.split(".")[0]
                    if bound == self.name:
                        return True
        return False

    def __str__(self) -> str:
        return f"the import of {self.name}"


@dataclass(frozen=True)
class Returns(Shape):
    """A return of `name`."""

    name: str

    def matches(self, line: cst.SimpleStatementLine) -> bool:
        return any(
            isinstance(part, cst.Return) and dotted(part.value) == self.name for part in line.body
        )

    def __str__(self) -> str:
        return f"the return of {self.name}"


def _names(target: cst.BaseExpression) -> set[str | None]:
    if isinstance(target, cst.Tuple | cst.List):
        return {dotted(element.value) for element in target.elements}
    return {dotted(target)}
