"""Functions of a module as syntax trees, and what becomes of one when a node of it is changed."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef
# What is weakened in a node, and how, in place; nothing for most nodes.
Weakened = Callable[[ast.AST], Iterator[tuple[str, Callable[[Any], None]]]]


def functions(tree: ast.Module) -> Iterator[tuple[str, Function]]:
    """Functions of the module and methods of its classes, by qualified name."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, Function):
                    yield f"{node.name}.{inner.name}", inner


def changes(function: Function, weakened: Weakened) -> Iterator[tuple[str, str]]:
    """What is weakened, and the function's new source."""
    source = ast.unparse(function)
    for place, node in enumerate(ast.walk(function)):
        for what, change in weakened(node):
            copy = ast.parse(source).body[0]
            change(_at(copy, place))
            yield what, ast.unparse(ast.fix_missing_locations(copy))


def _at(tree: ast.AST, place: int) -> ast.AST:
    return next(node for number, node in enumerate(ast.walk(tree)) if number == place)
