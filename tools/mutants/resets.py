"""Mutants of what the pool does at each check-out: each command, each setting, each question."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tenantplane.core.db import pool
from tools.mutants.mutant import CodeEdit, Mutant

KILLERS: Final = ("test_residue_alone.py", "core/db/test_sessions.py", "test_tables.py::*own_rows")

_SETTING: Final = re.compile(r"set_config\('[\w.]+', (?P<value>'[^']*'|%s), true\)")
_QUESTION: Final = re.compile(r"EXISTS \(SELECT FROM [^()]+\(\)[^()]*\)")
_MODE: Final = re.compile(r" (ISOLATION LEVEL READ COMMITTED|READ WRITE)\b")
# What a transaction cannot do without.
_KEPT: Final = re.compile(r"\s*(BEGIN\b|SELECT\b|$)")


def reset_mutants() -> Iterator[Mutant]:
    """Of every statement with which the pool enters a transaction."""
    for name, text in vars(pool).items():
        if not (name.startswith("_ENTER_") and isinstance(text, str)):
            continue
        for number, (what, changed) in enumerate(_changes(text)):
            killers = (f"test_residue_alone.py::*[{name}", *KILLERS)
            yield Mutant(
                f"reset:{name}.{number}",
                what,
                killers,
                edit=CodeEdit("constant", pool.__name__, name, changed),
            )


def _changes(text: str) -> Iterator[tuple[str, str]]:
    commands = text.split(";")
    for number, command in enumerate(commands):
        if not _KEPT.match(command):
            rest = commands[:number] + commands[number + 1 :]
            yield f"without {command.strip()}", ";".join(rest)
    for found in _SETTING.finditer(text):
        # The parameter stays, so that the statement still takes what it is given.
        value = f"{found['value']}::text"
        yield f"without {found[0]}", text[: found.start()] + value + text[found.end() :]
    for found in _QUESTION.finditer(text):
        yield f"not asked: {found[0]}", text[: found.start()] + "false" + text[found.end() :]
    for found in _MODE.finditer(text):
        yield f"without{found[0]}", text[: found.start()] + text[found.end() :]
