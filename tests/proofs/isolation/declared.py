"""What the migrations say that each role may do, read from their text and not from the catalogue: a
wider or narrower grant in the database is then seen as one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from tests.proofs.isolation.table_cases import OPEN_TO_APP, SHARED_TABLES, TENANT_TABLES

VERBS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
ROLES: Final = ("app", "system", "query")

_ROOT: Final = Path(__file__).parents[3]
_MIGRATIONS: Final = {
    "control": _ROOT / "controlplane/tenantplane/controlplane/db/migrations",
    "data": _ROOT / "dataplane/tenantplane/dataplane/db/migrations",
}
_SYSTEM: Final = re.compile(r"tp\.allow_system\(\s*'([\w.]+)',\s*'([\w, ]*)'")
_SHARED: Final = re.compile(r"tp\.share\(\s*'([\w.]+)',\s*'system',\s*'([\w, ]*)'")
_QUERY: Final = re.compile(
    r"tp\.allow_query(_columns)?\(\s*'(?P<table>[\w.]+)'(,\s*'\{(?P<columns>[\w,\s]+)\}')?"
)
# Granted by the bootstrap and the base migrations.
_OF_TP: Final = {"tp.reviewed": {"SELECT"}, "tp.migration": {"SELECT"}}
# Which keys there are and how long they are valid: never what they are.
_OF_CONTEXT_KEYS: Final = frozenset({"key_id", "installed_at", "valid_until"})


@dataclass(frozen=True)
class Declared:
    """Verbs of `system` by table, and the tables that SQL of a model reads."""

    system: dict[str, set[str]] = field(default_factory=dict)
    query: set[str] = field(default_factory=set)
    # Of these it reads the named columns alone.
    in_part: dict[str, frozenset[str]] = field(default_factory=dict)


@cache
def of_database(name: str) -> Declared:
    text = "\n".join(path.read_text("utf-8") for path in sorted(_MIGRATIONS[name].glob("*.sql")))
    system = {table: set(verbs) for table, verbs in _OF_TP.items()}
    for table, verbs in [*_SYSTEM.findall(text), *_SHARED.findall(text)]:
        system.setdefault(table, set()).update(v for v in verbs.replace(",", " ").split())
    found = {m["table"]: m["columns"] for m in _QUERY.finditer(text)}
    in_part = {t: frozenset(c.replace(" ", "").split(",")) for t, c in found.items() if c}
    return Declared(system, set(found), in_part)


@cache
def may(name: str, table: str, role: str) -> frozenset[str]:
    """Verbs of a role on a table of the database `name`."""
    if role == "system":
        return frozenset(of_database(name).system.get(table, set()))
    if role == "query":
        return frozenset({"SELECT"} if table in of_database(name).query else ())
    granted = {case.table: case.app_may for case in TENANT_TABLES if case.database == name}
    text = granted.get(table, OPEN_TO_APP.get(table, ""))
    return frozenset(verb for verb in VERBS if verb in text)


def may_in_full(name: str, table: str, role: str) -> frozenset[str]:
    """The same, but of verbs on all columns."""
    verbs = may(name, table, role)
    in_part = role == "query" and table in of_database(name).in_part
    return verbs - {"SELECT"} if in_part else verbs


def all_tables() -> list[tuple[str, str]]:
    """Database and table, of all that the cases know."""
    known = [(case.database, case.table) for case in TENANT_TABLES]
    known += [(name, table) for name, tables in SHARED_TABLES.items() for table in tables]
    return sorted(known)


def in_part() -> list[tuple[str, str, str, frozenset[str]]]:
    """Database, table and role, with the columns that the role reads of it."""
    keys = [(name, "tp.context_key", "system", _OF_CONTEXT_KEYS) for name in sorted(_MIGRATIONS)]
    return keys + [
        (name, table, "query", columns)
        for name in sorted(_MIGRATIONS)
        for table, columns in sorted(of_database(name).in_part.items())
    ]
