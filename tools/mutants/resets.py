"""Mutants of what the pool does at each check-out: each command, each setting, each question, and
of how it tells the sessions that it has to look at."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tenantplane.core.db import pool, sessions
from tools.mutants.mutant import CodeEdit, Mutant
from tools.mutants.syntax import changes, functions

KILLERS: Final = ("test_residue_alone.py", "core/db/test_sessions.py")

_SETTING: Final = re.compile(r"set_config\('[\w.]+', (?P<value>'[^']*'|%s), true\)")
_QUESTION: Final = re.compile(r"EXISTS \(SELECT FROM [^()]+\(\)[^()]*\)")
_MODE: Final = re.compile(r" (ISOLATION LEVEL READ COMMITTED|READ WRITE)\b")
# What a transaction cannot do without.
_KEPT: Final = re.compile(r"\s*(BEGIN\b|SELECT\b|$)")
# Command tags of what prepares, listens, or may do either unseen.
_TRAPS: Final = ("DO", "LISTEN", "PREPARE")
# These mark a session, or judge whether it is to be marked.
_MARKS: Final = ("_suspect", "_judge")
_MARK: Final = "suspect"


def reset_mutants() -> Iterator[Mutant]:
    """Of every statement with which the pool enters a transaction or looks at a session."""
    for name, text in vars(pool).items():
        if not (name.startswith(("_ENTER_", "_LOOK_")) and isinstance(text, str)):
            continue
        for number, (what, changed) in enumerate(_changes(text)):
            killers = (f"test_residue_alone.py::*[{name}", *KILLERS)
            yield Mutant(
                f"reset:{name}.{number}",
                what,
                killers,
                edit=CodeEdit("constant", pool.__name__, name, changed),
            )
    for module in (sessions, pool):
        yield from _marks(module)
    for tag in _TRAPS:
        text = f"_LEAVE_NOTHING | {{{tag!r}}}"
        yield Mutant(
            f"reset:sessions._LEAVE_NOTHING[{tag}]",
            f"{tag} is said to leave nothing",
            KILLERS,
            edit=CodeEdit("value", sessions.__name__, "_LEAVE_NOTHING", text),
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


def _marks(module: ModuleType) -> Iterator[Mutant]:
    tree = ast.parse(Path(module.__file__ or "").read_text(encoding="utf-8"))
    short = module.__name__.rpartition(".")[2]
    for qualified, function in functions(tree):
        for number, (what, changed) in enumerate(changes(function, _unmarked)):
            # Behind a pooler a session is looked at each time: shown there, beside a real one.
            killers = ("test_pgbouncer_traps.py",) if "direct" in what else KILLERS
            yield Mutant(
                f"reset:{short}.{qualified}.{number}",
                what,
                killers,
                edit=CodeEdit("function", module.__name__, qualified, changed),
            )


def _unmarked(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name))) if name in _MARKS:
            yield f"without {ast.unparse(node)}", _nothing
        case ast.Assign(targets=[ast.Attribute(attr="suspect" | "direct")]):
            yield f"without {ast.unparse(node)}", partial(_said, "direct" in ast.unparse(node))
        case ast.If(test=test) if _MARK in ast.unparse(test) or "spoilt" in ast.unparse(test):
            yield f"never: if {ast.unparse(test)}", _never


def _nothing(node: ast.Expr) -> None:
    node.value = ast.Constant(None)


def _said(direct: bool, node: ast.Assign) -> None:
    """`direct` is always said, and `suspect` never."""
    (target,) = node.targets
    assert isinstance(target, ast.Attribute)
    said = ast.Constant(direct and target.attr == "direct")
    # What is asked to find it out is asked all the same.
    node.value = ast.BoolOp(ast.Or(), [node.value, said]) if said.value else said


def _never(node: ast.If) -> None:
    node.test = ast.Constant(False)
