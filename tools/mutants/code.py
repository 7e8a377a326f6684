"""Mutants of functions that keep tenants apart outside of the database: namespaces, the strict
decoder, the metadata allow-list, associated data, and default-deny filters. Their lists, entry by
entry, are in lists.py."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tools.mutants.lists import list_mutants
from tools.mutants.mutant import CodeEdit, Mutant
from tools.mutants.statements import modules_of
from tools.mutants.syntax import changes, functions

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
    "tenantplane.dataplane.gate.kept_answers",
    "tenantplane.dataplane.api",
    "tenantplane.dataplane.gate.allowed",
)
# A condition that decides whose something is, or whether it is on a list.
_DEFENCE: Final = re.compile(
    r"\borg_id\b.* (==|!=|not in|in) |(==|!=) .*\borg_id\b|not org_id\b|SEPARATOR|\bnot part\b"
    r"|_metadata_keys|_READERS|_ENCODINGS|\breader\b|\ballowed\.[A-Z]"
    r"|\bschemaname\b|\bcatalogname\b|\brelname\b|\bpg_|\bin_scope\b|\bis_allowed\b|_in_force|\bscopes\b|data_sources"
    r"|snapshot\.(tools|models)|\bgranted\b|is_org_id|starts_?with\(prefix"
)
# Of the calls that say what a ciphertext is bound to, all but the purpose, which comes first: that
# one is taken away where it is put in, in the functions themselves.
_BINDING: Final = ("associated_data", "place")
# Those that need more of a plane than the tests beside them have.
_RUNNING: Final = {
    "tenantplane.dataplane.tools.sql": ("sources/sql/test_tool.py::*[18",),
    "tenantplane.dataplane.sources.documents.re_embedding": (
        "documents/test_re_embedding.py::test_without_the_data_source",
    ),
}


def code_mutants() -> Iterator[Mutant]:
    """Of every function below these places, and of the lists that they go by."""
    for place in _PLACES:
        for module in _modules(place):
            yield from _of_module(module)
    yield from list_mutants()


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
    for qualified, function in functions(tree):
        for number, (what, changed) in enumerate(changes(function, _weakened)):
            yield Mutant(
                f"code:{short}.{qualified}.{number}",
                what,
                _killers(module.__name__),
                edit=CodeEdit("function", module.__name__, qualified, changed),
            )


def _killers(module: str) -> tuple[str, ...]:
    """The tests that mirror the module, then those of its folder."""
    folder, _, name = module.removeprefix("tenantplane.").replace(".", "/").rpartition("/")
    return (
        f"tests/unit/{folder}/test_{name}",
        f"tests/unit/{folder}/test_",
        *_RUNNING.get(module, ()),
    )


def _weakened(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.If(test=test, body=body) if _refuses(body) and _defends(test):
            # What is not on a list is handed on as it is, as LangGraph's own decoder does.
            raw = ast.unparse(test) == "reader is None"
            yield f"never: if {ast.unparse(test)}", _hand_on if raw else _never
            yield from _without_each_reason(test)
        case ast.comprehension(ifs=ifs):
            for number, test in enumerate(ifs):
                if _defends(test):
                    yield f"not asked: {ast.unparse(test)}", partial(_drop_filter, number)
        case ast.Return(value=ast.Compare() | ast.BoolOp() as value) if _defends(value):
            yield f"always: {ast.unparse(value)}", _always
        case ast.BinOp(left=ast.Name(id="granted"), op=ast.BitAnd(), right=right):
            yield f"granted or not: {ast.unparse(right)}", _widen
        case ast.Call(func=ast.Name(id=name), args=args) if name in _BINDING:
            for number, part in enumerate(args[1:], start=1):
                yield f"not bound to {ast.unparse(part)}", partial(_blur, number)
        case ast.Tuple(elts=[*_, ast.Starred(value=ast.Name(id="parts"))] as parts):
            for number, part in enumerate(parts):
                if ast.unparse(part) != "_FORM":  # a version, by which nothing is kept apart
                    yield f"bound to all but {ast.unparse(part)}", partial(_drop_part, number)


def _without_each_reason(test: ast.expr) -> Iterator[tuple[str, Callable[[Any], None]]]:
    """Of several reasons to refuse; conditions that all must hold are stricter with one gone."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        for number, operand in enumerate(test.values):
            if _defends(operand):
                yield f"not asked: {ast.unparse(operand)}", partial(_drop_operand, number)


def _defends(node: ast.AST) -> bool:
    return _DEFENCE.search(ast.unparse(node)) is not None


def _refuses(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise | ast.Return | ast.Continue)


def _never(node: ast.If) -> None:
    node.test = ast.Constant(False)


def _hand_on(node: ast.If) -> None:
    node.body = [ast.Return(ast.Name("payload", ast.Load()))]


def _always(node: ast.Return) -> None:
    node.value = ast.Constant(True)


def _drop_filter(number: int, node: ast.comprehension) -> None:
    del node.ifs[number]


def _drop_operand(number: int, node: ast.If) -> None:
    assert isinstance(node.test, ast.BoolOp)
    del node.test.values[number]


def _widen(node: ast.BinOp) -> None:
    node.left = node.right


def _drop_part(number: int, node: ast.Tuple) -> None:
    del node.elts[number]


def _blur(number: int, node: ast.Call) -> None:
    node.args[number] = ast.Constant("-")
