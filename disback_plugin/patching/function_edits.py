"""Edits of a function as a whole: its decorators, its parameters, its loops."""

from dataclasses import dataclass

import libcst as cst

from disback_plugin.patching.edits import Edit, Result, guarded
from disback_plugin.patching.shapes import mentions


@dataclass(frozen=True, kw_only=True)
class Decorate(Edit):
    """Add the decorator `@code`, the innermost."""

    code: str

    @property
    def looks_for(self) -> str:
        return "the function itself"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not isinstance(node, cst.FunctionDef):
            return None
        own = cst.Decorator(cst.parse_expression(self.code))
        return node.with_changes(decorators=[*node.decorators, own])


@dataclass(frozen=True, kw_only=True)
class AddParameter(Edit):
    """Add the parameter `name=default`, the last one."""

    name: str
    default: str

    @property
    def looks_for(self) -> str:
        return f"the function itself with parameters, none of them {self.name}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if not (isinstance(node, cst.FunctionDef) and node.params.params):
            return None
        params = node.params
        if self.name in [param.name.value for param in params.params]:
            return None
        *before, last = params.params
        own = cst.Param(
            cst.Name(self.name),
            default=cst.parse_expression(self.default),
            comma=last.comma,
            equal=cst.AssignEqual(
                whitespace_before=cst.SimpleWhitespace(""),
                whitespace_after=cst.SimpleWhitespace(""),
            ),
        )
        if before:  # laid out like the others
            last = last.with_changes(comma=before[-1].comma)
        return node.with_changes(params=params.with_changes(params=[*before, last, own]))


@dataclass(frozen=True, kw_only=True)
class GuardLoop(Edit):
    """Run a `for` loop that uses the dotted `name` only `if condition`."""

    name: str
    condition: str

    @property
    def looks_for(self) -> str:
        return f"a for loop that uses {self.name}"

    def change(self, node: cst.CSTNode, module: cst.Module) -> Result:
        if isinstance(node, cst.For) and mentions(node, self.name):
            return guarded(node, self.condition)
        return None
