"""What the SQL lint knows of a module: its constants, its imports, and who takes SQL in it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Module:
    """One Python file: what its names are bound to, as far as SQL needs to know."""

    path: str
    tree: ast.Module
    source: list[str]
    constants: dict[str, ast.expr] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    takers: dict[str, dict[str, int]] = field(default_factory=dict)

    @classmethod
    def parse(cls, path: str, text: str) -> Module:
        module = cls(path, ast.parse(text, path), text.splitlines())
        for node in module.tree.body:
            for name, value in bindings(node):
                module.constants[name] = value
        for inner in ast.walk(module.tree):
            if isinstance(inner, ast.ImportFrom) and inner.module:
                for alias in inner.names:
                    module.imports[alias.asname or alias.name] = (inner.module, alias.name)
            elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                sql = sql_parameters(inner)
                if sql:
                    module.takers[inner.name] = sql
        return module


def bindings(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value


def sql_parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, int]:
    """Parameters annotated LiteralString, with their place in a call (methods without self)."""
    given = [a for a in function.args.args if a.arg not in ("self", "cls")]
    places = {a.arg: place for place, a in enumerate(given) if is_literal_string(a.annotation)}
    return places | {a.arg: -1 for a in function.args.kwonlyargs if is_literal_string(a.annotation)}


def is_literal_string(annotation: ast.expr | None) -> bool:
    return annotation is not None and "LiteralString" in ast.unparse(annotation)


def bound_to(node: ast.AST, name: str) -> Iterator[ast.expr]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        yield from (value for bound, value in bindings(node) if bound == name)
    elif isinstance(node, ast.NamedExpr) and node.target.id == name:
        yield node.value
    elif isinstance(node, ast.AugAssign) and terminal(node.target) == name:
        yield ast.BinOp(node.target, node.op, node.value)
    elif isinstance(node, ast.For | ast.AsyncFor) and terminal(node.target) == name:
        yield node.iter


def terminal(node: ast.expr) -> str:
    """The last name of an expression: `a.b.cursor` → cursor, `AsyncConnection[Row]` → its class."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(value=inner) | ast.Await(value=inner) | ast.Call(func=inner):
            return terminal(inner)
        case _:
            return ""


def is_annotated_sql(module: Module, name: str) -> bool:
    return any(
        isinstance(node, ast.AnnAssign)
        and terminal(node.target) == name
        and is_literal_string(node.annotation)
        for node in module.tree.body
    )


def heads_of(module: Module) -> frozenset[str]:
    """Private constants that are never sent alone: others begin with them."""
    begun = [v.left for v in module.constants.values() if isinstance(v, ast.BinOp)]
    names = {node.id for node in begun if isinstance(node, ast.Name)}
    return frozenset(name for name in names if name.startswith("_"))


def text_of(module: Module, value: ast.expr) -> str | None:
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) if name in module.constants:
            return text_of(module, module.constants[name])
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            parts = text_of(module, left), text_of(module, right)
            return None if None in parts else f"{parts[0]}{parts[1]}"
        case _:
            return None
