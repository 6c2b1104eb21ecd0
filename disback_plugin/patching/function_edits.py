"""Edits of a function as a whole: its decorators, its parameters, its end."""

from dataclasses import KW_ONLY, dataclass

import libcst as cst

from disback_plugin.patching.edits import EQUAL, Edit, Result, statements


@dataclass(frozen=True)
class AppendTo(Edit):
    """Put our `code` at the end of the function."""

    _: KW_ONLY
    code: str
    words = "the function itself"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.FunctionDef) and isinstance(node.body, cst.IndentedBlock)

    def change(self, node: cst.FunctionDef, module: cst.Module) -> Result:
        body = [*node.body.body, *statements(self.code, module)]
        return node.with_changes(body=node.body.with_changes(body=body))


@dataclass(frozen=True)
class Decorate(Edit):
    """Add the decorator `@code`, the innermost."""

    _: KW_ONLY
    code: str
    words = "the function itself"

    def matches(self, node: cst.CSTNode) -> bool:
        return isinstance(node, cst.FunctionDef)

    def change(self, node: cst.FunctionDef, module: cst.Module) -> Result:
        own = cst.Decorator(cst.parse_expression(self.code))
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
        params = node.params.with_changes(params=[*before, last, own])
        return node.with_changes(params=params)
