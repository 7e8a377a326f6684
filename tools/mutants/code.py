"""Mutants of functions that keep tenants apart outside of the database: namespaces, the strict
decoder, the metadata allow-list, associated data, and default-deny filters."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tools.mutants.mutant import CodeEdit, Mutant
from tools.mutants.statements import modules_of

# Where such code may stand: whatever is new below these packages is looked at by itself.
_PLACES: Final = (
    "tenantplane.core.tenancy",
    "tenantplane.core.keys",
    "tenantplane.core.valkey",
    "tenantplane.core.audit",
    "tenantplane.dataplane.runtime",
    "tenantplane.dataplane.tools",
    "tenantplane.dataplane.sources",
    "tenantplane.dataplane.ledger",
    "tenantplane.dataplane.api",
)
# A condition that decides whose something is, or whether it is on a list.
_DEFENCE: Final = re.compile(
    r"\borg_id\b|SEPARATOR|_metadata_keys|_READERS|_ENCODINGS|\breader\b|\bin_scope\b"
    r"|\bscopes\b|data_sources|snapshot\.(tools|models)|\bgranted\b|associated_data|is_org_id"
    r"|starts_?with\(prefix"
)


def code_mutants() -> Iterator[Mutant]:
    """Of every function below these places."""
    for place in _PLACES:
        for module in _modules(place):
            yield from _of_module(module)


def _modules(place: str) -> Iterator[ModuleType]:
    try:
        found = importlib.import_module(place)
    except ModuleNotFoundError:
        return
    if getattr(found, "__file__", None):
        yield found
    else:
        yield from modules_of(place)


def _of_module(module: ModuleType) -> Iterator[Mutant]:
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    short = module.__name__.removeprefix("tenantplane.")
    for qualified, function in _functions(tree):
        for number, (what, changed) in enumerate(_changes(function)):
            yield Mutant(
                f"code:{short}.{qualified}.{number}",
                what,
                _killers(module.__name__),
                edit=CodeEdit("function", module.__name__, qualified, changed),
            )


def _killers(module: str) -> tuple[str, ...]:
    """The tests that mirror the module, then those of its folder, then the proofs."""
    parts = module.split(".")[1:]
    folder, name = "/".join(parts[:-1]), parts[-1]
    return (
        f"tests/unit/{folder}/test_{name}",
        f"tests/unit/{folder}/",
        f"tests/integration/{folder}/test_{name}",
        "test_namespaces_alone.py",
        "test_filters_alone.py",
        "test_checkpoints.py",
        "test_valkey.py",
        f"tests/integration/{folder}/",
    )


def _functions(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def _changes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, str]]:
    """What is weakened, and the function's new source."""
    source = ast.unparse(function)
    for place, node in enumerate(ast.walk(function)):
        for what, change in _weakened(node):
            copy = ast.parse(source).body[0]
            change(_at(copy, place))
            yield what, ast.unparse(ast.fix_missing_locations(copy))


def _at(tree: ast.AST, place: int) -> ast.AST:
    return next(node for number, node in enumerate(ast.walk(tree)) if number == place)


def _weakened(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.If(test=test, body=body) if _refuses(body) and _defends(test):
            yield f"never: if {ast.unparse(test)}", _never
        case ast.comprehension(ifs=ifs):
            for number, test in enumerate(ifs):
                if _defends(test):
                    yield f"not asked: {ast.unparse(test)}", partial(_drop_filter, number)
        case ast.Return(value=ast.Compare() | ast.BoolOp() as value) if _defends(value):
            yield f"always: {ast.unparse(value)}", _always
        case ast.Call(func=ast.Name(id="associated_data"), args=args):
            for number, part in enumerate(args):
                yield f"not bound to {ast.unparse(part)}", partial(_blur, number)
    if isinstance(node, ast.If) and _refuses(node.body) and isinstance(node.test, ast.BoolOp):
        for number, operand in enumerate(node.test.values):
            if _defends(operand):
                yield f"not asked: {ast.unparse(operand)}", partial(_drop_operand, number)


def _defends(node: ast.AST) -> bool:
    return _DEFENCE.search(ast.unparse(node)) is not None


def _refuses(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise | ast.Return | ast.Continue)


def _never(node: ast.If) -> None:
    node.test = ast.Constant(False)


def _always(node: ast.Return) -> None:
    node.value = ast.Constant(True)


def _drop_filter(number: int, node: ast.comprehension) -> None:
    del node.ifs[number]


def _drop_operand(number: int, node: ast.If) -> None:
    assert isinstance(node.test, ast.BoolOp)
    del node.test.values[number]


def _blur(number: int, node: ast.Call) -> None:
    node.args[number] = ast.Constant("-")
