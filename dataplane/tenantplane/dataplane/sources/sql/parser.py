"""Reads SQL that a model wrote with Postgres' own grammar, and lets through one SELECT over the
tables of one source, made of what `allowed` names.

A second line: what the database itself refuses (core/db/query.py) does not rest on it. Its own
worth is in messages by which the model mends its SQL, and in the bounds on what is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pglast import ast, parse_sql
from pglast.parser import ParseError

from tenantplane.core.errors import Unprocessable
from tenantplane.dataplane.sources.sql import allowed

MAX_CHARS: Final = 10_000
# Far above what a question needs; the planner's time grows with them.
_MAX_NODES: Final = 3_000
_MAX_DEPTH: Final = 120
_MAX_TABLES: Final = 12


@dataclass(frozen=True, slots=True)
class CheckedQuery:
    """One SELECT; `tables` are those of the source that it reads."""

    text: str
    tables: frozenset[str]


def check_query(text: str, source: str, tables: Collection[str]) -> CheckedQuery:
    """Raises Unprocessable (`sql_refused`) with what to write instead."""
    text = text.strip().rstrip(";").rstrip()
    nodes = list(_walk(_statement(text)))
    with_names = {str(n.ctename) for n in nodes if isinstance(n, ast.CommonTableExpr)}
    used = set()
    for node in nodes:
        _CHECKS.get(type(node), _nothing)(node)
        if isinstance(node, ast.RangeVar):
            used.add(_table(node, source, tables, with_names))
    if sum(isinstance(node, ast.RangeVar) for node in nodes) > _MAX_TABLES:
        raise _refused(f"more than {_MAX_TABLES} tables are named; use fewer in one query")
    return CheckedQuery(text, frozenset(used & set(tables)))


def _statement(text: str) -> ast.SelectStmt:
    if len(text) > MAX_CHARS:
        raise _refused(f"the query is longer than {MAX_CHARS} characters")
    if "\0" in text or not _is_unicode(text):
        raise _refused("the query has characters that are not text")
    try:
        statements = parse_sql(text)
    except ParseError as wrong:
        raise _refused(str(wrong.args[0])) from None
    if len(statements) != 1:
        raise _refused("write exactly one SELECT")
    statement = statements[0].stmt
    if not isinstance(statement, ast.SelectStmt):
        raise _refused("only SELECT is possible: this source is read-only")
    return statement


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(root: ast.Node) -> Iterator[ast.Node]:
    """All nodes, each of them on the list. Without recursion: a hostile text nests deeply."""
    waiting: list[tuple[Any, int]] = [(root, 0)]
    seen = 0
    while waiting:
        item, depth = waiting.pop()
        if isinstance(item, tuple | list):
            waiting.extend((part, depth) for part in item)
        elif isinstance(item, ast.Node):
            seen += 1
            name = type(item).__name__
            if name not in allowed.NODES:
                raise _refused(allowed.ADVICE.get(name, f"{name} is not possible here"))
            if seen > _MAX_NODES or depth > _MAX_DEPTH:
                raise _refused("the query is too large or too deeply nested")
            yield item
            waiting.extend((getattr(item, field), depth + 1) for field in item)


def _table(node: ast.RangeVar, source: str, tables: Collection[str], with_names: set[str]) -> str:
    if node.schemaname is not None:  # the grammar has a database before a schema alone
        raise _refused(f"write {node.relname} without a schema before it; the source is {source}")
    if node.relname not in tables and node.relname not in with_names:
        known = ", ".join(sorted(tables))
        raise _refused(f"the source {source} has no table {node.relname}; it has {known}")
    return str(node.relname)


def _nothing(_: Any) -> None:
    return None


def _with(node: ast.WithClause) -> None:
    if node.recursive:
        raise _refused("WITH RECURSIVE is not possible; join or use generate_series")


def _common_table(node: ast.CommonTableExpr) -> None:
    # A name that is out of scope where it is used would be looked up in the catalogue.
    if str(node.ctename).startswith("pg_"):
        raise _refused(f"a WITH query cannot be named {node.ctename}; choose another name")


def _column(node: ast.ColumnRef) -> None:
    names = [str(part.sval) for part in node.fields or () if isinstance(part, ast.String)]
    if len(names) > 2:  # more than table.column
        raise _refused(f"write {names[-2]}.{names[-1]} without a schema before it")
    # `t.f` calls a function f of the row t where there is no such column.
    if names and (names[-1] in allowed.SYSTEM_COLUMNS or names[-1].startswith("pg_")):
        raise _refused(f"there is no column {names[-1]}")


def _indirection(node: ast.A_Indirection) -> None:
    if any(isinstance(part, ast.String) for part in node.indirection or ()):
        raise _refused("(expression).name is not possible; for JSON use expression ->> 'name'")


def _function(node: ast.FuncCall) -> None:
    *schema, name = (part.sval for part in node.funcname or ())
    # The grammar itself writes pg_catalog before functions with a syntax of their own.
    if schema not in ([], ["pg_catalog"]) or name not in allowed.FUNCTIONS:
        raise _refused(f"the function {name} is not available")


def _type(node: ast.TypeName) -> None:
    *schema, name = (part.sval for part in node.names or ())
    if schema not in ([], ["pg_catalog"]) or name not in allowed.TYPES or node.setof:
        raise _refused(f"the type {name} is not available")
    if node.pct_type:
        raise _refused("%TYPE is not available")


def _operator(names: Collection[ast.String] | None) -> None:
    spelt = [part.sval for part in names or ()]
    if len(spelt) > 1 or any(name not in allowed.OPERATORS for name in spelt):
        raise _refused(f"the operator {spelt[-1]} is not available")


def _value(node: ast.SQLValueFunction) -> None:
    name = node.op.name if node.op is not None else "SVFOP_"
    if name not in allowed.TIME_VALUES:
        raise _refused(f"{name.removeprefix('SVFOP_')} is not available")


_CHECKS: Final[dict[type, Callable[[Any], None]]] = {
    ast.WithClause: _with,
    ast.CommonTableExpr: _common_table,
    ast.ColumnRef: _column,
    ast.A_Indirection: _indirection,
    ast.FuncCall: _function,
    ast.TypeName: _type,
    ast.A_Expr: lambda node: _operator(node.name),
    ast.SubLink: lambda node: _operator(node.operName),
    ast.SortBy: lambda node: _operator(node.useOp),
    ast.SQLValueFunction: _value,
}


def _refused(reason: str) -> Unprocessable:
    return Unprocessable(f"{reason[:1].upper()}{reason[1:]}.", code="sql_refused")
