"""The only ways to a cursor are Database's, and no SQL is built from strings.

    python -m tools.sql_lint        exit 1, and one line for each place that is neither

A second line behind row-level security: a programmer who forgets the tenant, opens a connection of
his own or pastes a value into SQL is told before the change is merged. Read from the syntax tree:

connection  a driver, pool, connection or cursor made outside core/db's named files
built       SQL that is not a literal, `statement("name")`, or psycopg.sql around literals
session     session-level settings, temporary tables, advisory locks outside core/db
scope       a statement on a tenant table without org_id as a parameter; what has to look at all
            orgs says why in the statement itself: `-- all orgs: <why>`
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.sql_modules import (
    Module,
    bound_to,
    heads_of,
    is_annotated_sql,
    is_literal_string,
    sql_parameters,
    terminal,
    text_of,
)
from tools.sql_text import Finding, lint_statement, tenant_tables

ROOT: Final = Path(__file__).parent.parent
FOLDERS: Final = ("operator", "controlplane", "dataplane", "cli", "core")

_DB: Final = "core/tenantplane/core/db/"
# Where a connection is opened by hand, and why that file may.
CONNECTING: Final[Mapping[str, str]] = {
    _DB + "pool.py": "is the pool",
    _DB + "sessions.py": "the pool's sessions and cursors",
    _DB + "query.py": "runs a model's SQL inside a tenant's transaction, as the query role",
    _DB + "doctor.py": "reads the catalogue",
    _DB + "bootstrap.py": "the administrator's, before there is a role to be",
    _DB + "migrate.py": "the owner's, one file in one transaction",
    _DB + "owner.py": "the owner's, for an operator's command on the data of one org",
    _DB + "context_keys.py": "the owner's: whoever reads a key can be any tenant",
    _DB + "embedded.py": "asks whether the server has come up",
}
# Where SQL is put together, and why it may.
BUILDING: Final[Mapping[str, str]] = {
    _DB + "bootstrap.py": "names of databases and roles, quoted; the administrator's command",
    _DB + "migrate.py": "runs files as they are written; the owner's command",
    _DB + "sessions.py": "passes on what its callers, who are looked at, execute",
    _DB + "query.py": "a model's SQL is what it runs: parsed, then bound by the query role",
}
# The readers of .sql files: what they return is as literal as the files.
READERS: Final = re.compile(r"/statements\.py$")

_DRIVERS: Final = frozenset(
    {"psycopg_pool", "asyncpg", "psycopg2", "pg8000", "sqlalchemy", "alembic"}
)
_CURSOR_CLASSES: Final = re.compile(r"^(Async)?(Raw|Client|Server|RawServer)?Cursor$")
_CONNECTION_CLASSES: Final = re.compile(r"^(psycopg|(Async)?Connection)$")
_HANDS_OUT: Final = frozenset({"cursor", "connection", "getconn", "putconn"})
_ENDS: Final = frozenset({"commit", "rollback", "set_autocommit"})
_PRIVATE: Final = frozenset({"_app", "_system", "_connect", "_transaction", "_pool"})
_RUNS: Final = frozenset({"execute", "executemany"})
_RUNS_ON_CURSORS: Final = frozenset({"copy", "stream"})
_CURSOR_NAME: Final = re.compile(r"(^|_)(cur|cursor|conn|connection|tx)$")
_COMPOSERS: Final = frozenset({"Identifier", "Literal", "Placeholder"})

_WAY: Final = "enter through Database: tenant_tx, system_tx, unscoped_tx, append_connection, listen"
_TEXT: Final = "write it as a constant or a .sql file, and give values as parameters"


class Linter(ast.NodeVisitor):
    """Findings of one module. `modules` are all of them by dotted name, to follow imports."""

    def __init__(
        self, module: Module, modules: Mapping[str, Module], tables: frozenset[str]
    ) -> None:
        self.module, self.modules, self.tables = module, modules, tables
        self.findings: list[Finding] = []
        self._functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self._in_db = module.path.startswith(_DB)
        self._may_connect = module.path in CONNECTING

    def run(self) -> list[Finding]:
        self.visit(self.module.tree)
        heads = heads_of(self.module)
        for name, value in self.module.constants.items():
            if is_annotated_sql(self.module, name) and name not in heads:
                self._constant(value)
        return self.findings

    def _say(self, node: ast.AST, kind: str, what: str, remedy: str) -> None:
        self.findings.append(
            Finding(self.module.path, getattr(node, "lineno", 1), kind, what, remedy)
        )

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._driver(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._driver(node, node.module or "")
        if (node.module or "").partition(".")[0] == "psycopg" and not self._may_connect:
            for alias in node.names:
                if alias.name == "connect":
                    self._say(node, "connection", "imports psycopg's connect", _WAY)

    def _driver(self, node: ast.AST, module: str) -> None:
        if module.partition(".")[0] in _DRIVERS and not self._may_connect:
            self._say(node, "connection", f"imports {module}", _WAY)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._functions.append(node)
        if is_literal_string(node.returns) and not READERS.search(self.module.path):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and not self._literal(inner.value):
                    self._say(inner, "built", "returns as LiteralString what is not literal", _TEXT)
        self.generic_visit(node)
        self._functions.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        mine = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if node.attr in _PRIVATE and not mine and "database" in ast.unparse(node.value).lower():
            self._say(node, "connection", f"reaches into Database.{node.attr}", _WAY)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and is_literal_string(node.annotation):
            self._must_be_literal(node.value, node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = terminal(node.func)
        if name == "cast" and node.args and is_literal_string(node.args[0]):
            self._say(node, "built", "casts to LiteralString", _TEXT)
        if not self._may_connect:
            self._connecting(node, name)
        if self._runs_sql(node.func):
            if node.args or node.keywords:
                self._statement(node)
        else:
            self._passes_sql(node, name)
        self.generic_visit(node)

    def _connecting(self, node: ast.Call, name: str) -> None:
        called = node.func
        if isinstance(called, ast.Attribute):
            owner = terminal(called.value)
            if name == "connect" and _CONNECTION_CLASSES.match(owner):
                self._say(node, "connection", f"opens a connection: {owner}.connect", _WAY)
            elif name in _HANDS_OUT:
                self._say(node, "connection", f"takes .{name}() by hand", _WAY)
            elif name in _ENDS and _CURSOR_NAME.search(owner):
                self._say(
                    node, "connection", f"ends the transaction by .{name}()", "let the block end it"
                )
        if _CURSOR_CLASSES.match(name) and self._from_psycopg(called):
            self._say(node, "connection", f"makes a cursor: {name}", _WAY)

    def _from_psycopg(self, called: ast.expr) -> bool:
        if isinstance(called, ast.Attribute):
            return terminal(called.value) == "psycopg"
        return isinstance(called, ast.Name) and self.module.imports.get(called.id, ("", ""))[
            0
        ].startswith("psycopg")

    def _runs_sql(self, called: ast.expr) -> bool:
        if not isinstance(called, ast.Attribute):
            return False
        owner = terminal(called.value)
        if _CURSOR_NAME.search(owner):
            return called.attr in _RUNS or called.attr in _RUNS_ON_CURSORS
        # Of other names, those that execute in a module that knows the database.
        return called.attr in _RUNS and not owner.endswith("executor") and self._knows_database()

    def _knows_database(self) -> bool:
        return any(
            origin.startswith(("psycopg", "tenantplane.core.db")) or origin.endswith("statements")
            for origin, _ in self.module.imports.values()
        )

    def _statement(self, node: ast.Call) -> None:
        given = node.args[0] if node.args else node.keywords[0].value
        end = (node.end_lineno or node.lineno) + 1
        if any("type: ignore" in line for line in self.module.source[node.lineno - 1 : end - 1]):
            self._say(node, "built", "silences the type checker on SQL", _TEXT)
        self._must_be_literal(given, node)
        if isinstance(given, ast.Constant) and isinstance(given.value, str):
            self._text(given, given.value)

    def _passes_sql(self, node: ast.Call, name: str) -> None:
        """The same for arguments of functions that take SQL: mypy reads LiteralString as str."""
        for parameter, place in self._takes_sql(node.func, name).items():
            by_name = [k.value for k in node.keywords if k.arg == parameter]
            by_place = [node.args[place]] if 0 <= place < len(node.args) else []
            for value in by_name or by_place:
                self._must_be_literal(value, node)

    def _takes_sql(self, called: ast.expr, name: str) -> dict[str, int]:
        if name in self.module.takers:
            return self.module.takers[name]
        if isinstance(called, ast.Name) and called.id in self.module.imports:
            origin, original = self.module.imports[called.id]
            known = self.modules.get(origin)
            return known.takers.get(original, {}) if known else {}
        return {}

    def _must_be_literal(self, value: ast.expr, place: ast.AST) -> None:
        if self.module.path not in BUILDING and not self._literal(value):
            shown = ast.unparse(value)
            shown = shown if len(shown) <= 60 else shown[:57] + "…"
            self._say(place, "built", f"SQL is not literal: {shown}", _TEXT)

    def _literal(self, value: ast.expr | None, module: Module | None = None) -> bool:
        """Whether no input can be part of the text of `value`."""
        module = module or self.module
        literal = False
        match value:
            case ast.Constant():
                literal = isinstance(value.value, str)
            case ast.IfExp(body=one, orelse=other):
                literal = self._literal(one, module) and self._literal(other, module)
            case ast.BinOp(left=left, op=ast.Add(), right=right) if not self._functions:
                # Constants may share a head; inside a function it would be building.
                literal = self._literal(left, module) and self._literal(right, module)
            case ast.Subscript(value=ast.Name(id=name)):
                table = module.constants.get(name)
                literal = isinstance(table, ast.Dict) and self._literal(table, module)
            case ast.Dict(values=parts) | ast.Tuple(elts=parts) | ast.List(elts=parts):
                literal = all(self._literal(part, module) for part in parts)
            case ast.Name(id=name):
                literal = self._literal_name(name, module)
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                origin, original = module.imports.get(owner, ("", ""))
                literal = self._literal_import(f"{origin}.{original}", name)
            case ast.Call():
                literal = self._literal_call(value, module)
        return literal

    def _literal_name(self, name: str, module: Module) -> bool:
        if module is self.module:
            for function in reversed(self._functions):
                bound = [v for n in ast.walk(function) for v in bound_to(n, name)]
                if bound:
                    return all(self._literal(v) for v in bound)
                if name in sql_parameters(function):
                    return True  # what is passed for it is looked at where it is passed
                if name in {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}:
                    return False
        if name in module.constants:
            return self._literal_constant(module, name)
        origin, original = module.imports.get(name, ("", ""))
        return self._literal_import(origin, original)

    def _literal_import(self, origin: str, name: str) -> bool:
        known = self.modules.get(origin)
        return known is not None and name in known.constants and self._literal_constant(known, name)

    def _literal_constant(self, module: Module, name: str) -> bool:
        functions, self._functions = self._functions, []
        try:
            return self._literal(module.constants[name], module)
        finally:
            self._functions = functions

    def _literal_call(self, call: ast.Call, module: Module) -> bool:
        name = terminal(call.func)
        if name == "statement":
            return len(call.args) == 1 and self._literal(call.args[0], module)
        if name == "SQL":
            return len(call.args) == 1 and self._literal(call.args[0], module)
        if name in _COMPOSERS:
            return True
        if name == "format" and isinstance(call.func, ast.Attribute):
            text = call.func.value
            is_sql = isinstance(text, ast.Call) and terminal(text.func) == "SQL"
            parts = [*call.args, *(k.value for k in call.keywords)]
            return (
                is_sql and self._literal(text, module) and all(self._part(p, module) for p in parts)
            )
        return False

    def _part(self, value: ast.expr, module: Module) -> bool:
        if isinstance(value, ast.Constant):
            return False  # format() would not quote it
        return self._literal(value, module)

    def _constant(self, value: ast.expr) -> None:
        text = text_of(self.module, value)
        if text is not None:
            self._text(value, text)

    def _text(self, node: ast.AST, text: str) -> None:
        for finding in lint_statement(text, self.tables, in_db=self._in_db):
            self._say(node, *finding)


def lint(root: Path) -> list[Finding]:
    """All findings below `root`, by file and line."""
    paths = [p for folder in FOLDERS for p in sorted((root / folder).rglob("*.py"))]
    paths = [p for p in paths if "tests" not in p.relative_to(root).parts]
    modules = {}
    for path in paths:
        relative = path.relative_to(root)
        dotted = ".".join(relative.with_suffix("").parts[1:])
        modules[dotted] = Module.parse(relative.as_posix(), path.read_text(encoding="utf-8"))
    tables = tenant_tables(
        p.read_text(encoding="utf-8") for p in root.glob("*/**/migrations/*.sql")
    )
    findings = [f for module in modules.values() for f in Linter(module, modules, tables).run()]
    for path in (p for folder in FOLDERS for p in (root / folder).rglob("*.sql")):
        place = path.relative_to(root).as_posix()
        if "/migrations/" not in place and not place.startswith(_DB):
            text = path.read_text(encoding="utf-8")
            findings += [Finding(place, 1, *f) for f in lint_statement(text, tables, in_db=False)]
    return sorted(set(findings), key=lambda f: (f.path, f.line, f.what))


def main() -> int:
    findings = lint(ROOT)
    for finding in findings:
        print(finding)
    print(f"sql lint: {len(findings)} findings" if findings else "sql lint: clean")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
