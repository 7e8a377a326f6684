"""Mutants of the database's own functions: each guard, each part of a condition, each filter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, LiteralString

from psycopg import Connection
from psycopg.rows import DictRow

from tools.mutants.mutant import Mutant
from tools.mutants.tables import DatabaseKind

PROOF: Final = ("test_proof_alone.py", "test_tables.py::*without_a_proven_tenant")
DEFINERS: Final = (
    "test_definers.py",
    "test_definers_alone.py",
    "test_shelves_alone.py",
    "test_filters_alone.py::*[runtime get",
)

# What decides who a caller is, whatever runs with its owner's rights, and whatever app may run.
_FUNCTIONS: Final[LiteralString] = """
SELECT format('%I.%I', n.nspname, p.proname) AS name, pg_get_functiondef(p.oid) AS definition,
       n.nspname = 'tp' AS is_tp
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname !~ '^(pg_|information_schema$)' AND p.prokind = 'f'
   AND (p.prosecdef OR p.oid = to_regprocedure('tp.verify_proof(text,text)')
        OR has_function_privilege(tp.role_name('app')::text, p.oid, 'EXECUTE'))
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                      AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1
"""
# Conditions on who asks; others are the function's business.
_DEFENCE: Final = re.compile(
    r"\b(org|org_id|proof|proven|proven_org|expiry|key|current_org)\b|\bFOUND\b"
)
_BETWEEN: Final = re.compile(r"BETWEEN\s+(\S+)\s+AND\s+")
_GUARD: Final = re.compile(r"\b(?:ELS)?IF\s+(?P<test>(?:(?!\bIF\b).)+?)\s+THEN\b", re.S)
_OWN_ROWS: Final = re.compile(
    r"(?<![\w.])(?:\w+\.)?org_id\s*=\s*"
    r"(?:\(SELECT tp\.current_org\(\)\)|tp\.current_org\(\)|(?!ANY\b)[\w.]+)"
)
_WHERE: Final = re.compile(r"\bWHERE\s+(?P<test>[^;]+?)(?=;|\bFOR UPDATE\b|\bON CONFLICT\b)", re.S)
_ASKS_FOR_PROOF: Final = re.compile(r"\b(proof|proven)\b")
_SETS: Final = re.compile(r"\bSET\s+$")
_ANSWER: Final = re.compile(r"\bRETURN\s+(?P<value>sha256[^;]+);", re.S)
_OF_THE_PROVEN: Final = re.compile(r"(?<![\w.])\w+\.\w+\s*=\s*ANY\s*\(proven\)")
_VERIFIED: Final = re.compile(r"\btp\.verify_proof\([^()]*\)")
_ENTERED: Final = re.compile(r"set_config\((?P<name>'app\.\w+'), (?P<value>[^,]+), true\)")

# What stands twice, in files that were applied and cannot be changed: without it the function
# answers the same to every question.
_REDUNDANT: Final = {
    ("tp.verify_proof", "not asked: proof IS NULL"): (
        "a NULL proof names no key, and no key is found for it"
    ),
}


def function_mutants(connection: Connection[DictRow], kind: DatabaseKind) -> Iterator[Mutant]:
    """Of a migrated database. The definer functions of tp and of the plane appear by themselves."""
    for row in connection.execute(_FUNCTIONS):
        name, definition = row["name"], row["definition"]
        is_tp = row["is_tp"]
        killers = PROOF if is_tp else (f"test_definers.py::*[{name}]", *DEFINERS)
        for number, (what, changed) in enumerate(_changes(definition, is_tp=is_tp)):
            yield Mutant(
                f"function:{kind}.{name}.{number}",
                what,
                killers,
                kind,
                (changed,),
                (definition,),
                excluded=_REDUNDANT.get((name, what), ""),
            )


def _changes(definition: str, *, is_tp: bool) -> Iterator[tuple[str, str]]:
    """What is weakened, and the function's new text."""
    for what, (start, end), text in _weakened(definition, is_tp=is_tp):
        yield what, definition[:start] + text + definition[end:]


def _weakened(definition: str, *, is_tp: bool) -> Iterator[tuple[str, tuple[int, int], str]]:
    yield from _guards(definition, is_tp=is_tp)
    for own in _OWN_ROWS.finditer(definition):
        if not _SETS.search(definition, 0, own.start()):
            yield f"without: {own[0]} ({_context(definition, own)})", own.span(), "true"
    if is_tp:
        yield from _proof(definition)
        return
    for verified in _VERIFIED.finditer(definition):
        yield f"every proof is good: {verified[0]}", verified.span(), "true"
    for proven in _OF_THE_PROVEN.finditer(definition):
        context = _context(definition, proven)
        yield f"without: {proven[0]} ({context})", proven.span(), "true"
    for entered in _ENTERED.finditer(definition):
        kept = f"current_setting({entered['name']}, true)"
        yield f"not set: {entered[0]}", entered.span("value"), kept


def _guards(definition: str, *, is_tp: bool) -> Iterator[tuple[str, tuple[int, int], str]]:
    for guard in _GUARD.finditer(definition):
        test, span = guard["test"], guard.span("test")
        if not _DEFENCE.search(test):
            continue
        if is_tp or _ASKS_FOR_PROOF.search(test):
            yield f"never: IF {_short(test)}", span, "false"
        for part, rest in _without_each(test):
            if _DEFENCE.search(part):
                yield f"not asked: {_short(part)}{_of(test, part)}", span, rest


def _proof(definition: str) -> Iterator[tuple[str, tuple[int, int], str]]:
    for where in _WHERE.finditer(definition):
        for part, rest in _without_each(where["test"]):
            yield f"not asked: {_short(part)}", where.span("test"), rest
    for answer in _ANSWER.finditer(definition):
        yield "every code is right", answer.span("value"), "true"
    for part in ("org || '|' || ", " || '|' || expiry"):
        at = definition.find(part)
        if at >= 0:
            yield f"the code leaves out {part.strip(' |')}", (at, at + len(part)), ""


def _without_each(test: str) -> Iterator[tuple[str, str]]:
    """Each operand of the outermost OR or AND, and the condition without it."""
    for word in ("OR", "AND"):
        parts = _operands(test, word)
        if len(parts) > 1:
            for number, part in enumerate(parts):
                yield part, f" {word} ".join(parts[:number] + parts[number + 1 :])
            return


def _operands(test: str, word: str) -> list[str]:
    hidden = _BETWEEN.sub(lambda m: m[0].replace("AND", "&&&"), test)
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"[()]|\b{word}\b", hidden):
        if match[0] in "()":
            depth += 1 if match[0] == "(" else -1
        elif depth == 0:
            parts.append(test[start : match.start()].strip())
            start = match.end()
    return [*parts, test[start:].strip()]


def _context(definition: str, match: re.Match[str]) -> str:
    """The statement that the filter stands in, by its first words."""
    before = definition[: match.start()]
    verbs = re.findall(r"\b(SELECT|UPDATE|DELETE|EXISTS)\b", before)
    line = definition.count("\n", 0, match.start())
    return f"{verbs[-1] if verbs else 'text'}, line {line}"


def _of(test: str, part: str) -> str:
    """The condition that a part which could stand anywhere is of."""
    return f", of: {_short(test)[:42]}" if part == "FOUND" else ""


def _short(text: str) -> str:
    return " ".join(text.split())[:90]
