"""What the SQL lint reads in the text of a statement."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING: Final = re.compile(r"'(?:[^']|'')*'")
_ALL_ORGS: Final = re.compile(r"--[ \t]*all orgs:[ \t]*(\S[^\n]{9,})")
_ORG_PARAMETER: Final = re.compile(r"%\(orgs?(?:_ids?)?\)s")
_ORG_COMPARED: Final = re.compile(r"\borg_id\s*=\s*(?:ANY\s*\(\s*)?%")
_PROTECTED: Final = re.compile(r"tp\.protect\(\s*'([a-z_]+\.[a-z_0-9]+)'")
_LOCAL: Final = re.compile(r"SET\s+(LOCAL|TRANSACTION|CONSTRAINTS)\b", re.IGNORECASE)
_OF_THE_POOL: Final = re.compile(
    r"\b(role|session_authorization|search_path|row_security|app\.\w+)\b", re.IGNORECASE
)
_SESSION: Final = re.compile(
    r"^(SET|RESET|DISCARD|LISTEN|UNLISTEN|PREPARE|DEALLOCATE|LOAD|BEGIN|START|COMMIT|END|ABORT"
    r"|ROLLBACK|SAVEPOINT|LOCK)\b",
    re.IGNORECASE,
)
_SET_CONFIG: Final = re.compile(
    r"\bset_config\s*\(\s*('[^']*'|[^,]*),[^;]*?,\s*(\w+)\s*\)", re.IGNORECASE
)
_TEMPORARY: Final = re.compile(
    r"\bCREATE\s+(?:LOCAL\s+|GLOBAL\s+)?(TEMP|TEMPORARY)\b|\bpg_temp\.|\bINTO\s+TEMP", re.IGNORECASE
)
_ADVISORY: Final = re.compile(r"\bpg_(try_)?advisory_", re.IGNORECASE)
_HELD: Final = re.compile(r"\bWITH\s+HOLD\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One place, what is wrong there, and what to do."""

    path: str
    line: int
    kind: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.what}; {self.remedy}"


def tenant_tables(migrations: Iterable[str]) -> frozenset[str]:
    """The tables that migrations hand to tp.protect: `schema.table`."""
    return frozenset(table for text in migrations for table in _PROTECTED.findall(text))


def lint_statement(
    text: str, tables: frozenset[str], *, in_db: bool
) -> Iterator[tuple[str, str, str]]:
    """(kind, what, remedy) of each thing that is wrong with one text of SQL."""
    bare = _COMMENT.sub(" ", text)
    if not in_db:
        yield from _session(bare)
    yield from _scope(text, bare, tables)


def _session(bare: str) -> Iterator[tuple[str, str, str]]:
    local = "what holds for a session outlives the tenant: use SET LOCAL, or leave it to core/db"
    for part in (p.strip() for p in bare.split(";")):
        word = _SESSION.match(part)
        if word and not (_LOCAL.match(part) and not _OF_THE_POOL.search(part)):
            yield "session", f"{word.group().upper()} outside core/db", local
    for name, is_local in _SET_CONFIG.findall(bare):
        if is_local.lower() != "true" or not name.startswith("'") or _OF_THE_POOL.search(name):
            yield "session", f"set_config of {name}", local
    if re.search(r"\bset_config\b", bare) and not _SET_CONFIG.search(bare):
        yield "session", "set_config that cannot be read", local
    if _TEMPORARY.search(bare):
        yield "session", "temporary table", "it outlives the transaction, and shadows: use a CTE"
    if _ADVISORY.search(bare):
        yield "session", "advisory lock", "its key space is all tenants': lock a row of the tenant"
    if _HELD.search(bare):
        yield "session", "cursor WITH HOLD", "it outlives the tenant: fetch inside the transaction"


def _scope(text: str, bare: str, tables: frozenset[str]) -> Iterator[tuple[str, str, str]]:
    without_strings = _STRING.sub("''", bare)
    named = sorted(t for t in tables if re.search(rf"\b{re.escape(t)}\b", without_strings))
    if not named or _ALL_ORGS.search(text):
        return
    if _ORG_PARAMETER.search(bare) or _ORG_COMPARED.search(bare):
        return
    yield (
        "scope",
        f"reads or writes {', '.join(named)} without org_id as a parameter",
        "say org_id = %(org_id)s, or why it is about all orgs: `-- all orgs: <why>`",
    )
