"""Puts a mutant in force and takes it back, in live databases and in this process."""

from __future__ import annotations
import __future__

import importlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import _lru_cache_wrapper
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import psycopg

from tenantplane.core.db import doctor
from tenantplane.core.derived import Derived
from tools.mutants.mutant import CodeEdit, Mutant, role

# A plane that serves beside the tests holds its locks for milliseconds.
_LOCK_SECONDS = 10
_KINDS = ("owner", "app", "system", "query", "backup")


class NotApplied(Exception):
    """The mutant could not be put in force anywhere: it says nothing about the tests."""


@dataclass(frozen=True, slots=True)
class LiveDatabase:
    """A database that tests work in; mutants of its kind are put in force there."""

    kind: str
    dbname: str
    role_prefix: str
    admin_dsn: str = field(repr=False)

    def run(self, statements: Sequence[str]) -> None:
        with psycopg.connect(self.admin_dsn) as connection:
            connection.execute(f"SET lock_timeout = '{_LOCK_SECONDS}s'".encode())
            for statement in statements:
                connection.execute(self._own(statement).encode())

    def _own(self, statement: str) -> str:
        for kind in _KINDS:
            statement = statement.replace(role(kind), f'"{self.role_prefix}_{kind}"')
        return statement.replace("@database@", f'"{self.dbname}"')


@contextmanager
def in_force(mutant: Mutant, databases: Sequence[LiveDatabase]) -> Iterator[None]:
    """Raises NotApplied. What is mutated would not start: the start-up check is out of the way."""
    with ExitStack() as undo:
        undo.callback(_forget)
        undo.enter_context(_replaced(doctor, "inspect", _finds_nothing))
        if mutant.edit is not None:
            undo.enter_context(_edited(mutant.edit))
        if mutant.apply:
            undo.enter_context(
                _applied(mutant, [d for d in databases if d.kind == mutant.database])
            )
        _forget()
        yield


def _forget() -> None:
    """What was found under another rule is found again: all that the product remembers by
    functools, or as core/derived.py does."""
    for module in _own_modules():
        for value in list(vars(module).values()):
            if isinstance(value, Derived | _lru_cache_wrapper):
                value.cache_clear()


async def _finds_nothing(_: object) -> list[Any]:
    return []


@contextmanager
def _applied(mutant: Mutant, databases: Sequence[LiveDatabase]) -> Iterator[None]:
    changed: list[LiveDatabase] = []
    try:
        for database in databases:
            try:
                database.run(mutant.apply)
            except psycopg.errors.UniqueViolation:
                continue  # its rows of two orgs share an id already: a weaker key cannot be made
            except psycopg.errors.UndefinedObject:
                continue  # its tests have taken this line away themselves
            except psycopg.Error as failed:
                raise NotApplied(f"{mutant.id}: {failed}") from failed
            changed.append(database)
        if not changed:
            raise NotApplied(f"{mutant.id}: in no database")
        yield
    finally:
        for database in changed:
            database.run(mutant.undo)


@contextmanager
def _edited(edit: CodeEdit) -> Iterator[None]:
    module = importlib.import_module(edit.module)
    if edit.edit == "constant":
        with _constant(vars(module)[edit.name], edit.text):
            yield
    elif edit.edit == "value":
        # The text is of tools/mutants/lists.py, in this checkout.
        with _constant(vars(module)[edit.name], eval(edit.text, vars(module).copy())):  # noqa: S307
            yield
    elif edit.edit == "function":
        with _function(module, edit.name, edit.text):
            yield
    else:
        with _sql_file(module, edit.name, edit.text):
            yield


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    before = vars(module)[name]
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _constant(original: object, other: object) -> Iterator[None]:
    """Wherever this very object is bound, under whatever name it was imported, or is a default."""
    with ExitStack() as undo:
        for module in _own_modules():
            for name, value in list(vars(module).items()):
                if value is original:
                    undo.enter_context(_replaced(module, name, other))
                undo.enter_context(_defaults(value, original, other))
        yield


@contextmanager
def _defaults(value: object, original: object, other: object) -> Iterator[None]:
    """Of keyword-only parameters, of a function or of a class's methods."""
    members = vars(value).values() if isinstance(value, type) else (value,)
    changed = [
        (defaults, name)
        for defaults in (m.__kwdefaults__ for m in members if isinstance(m, FunctionType))
        for name, default in (defaults or {}).items()
        if default is original and defaults is not None
    ]
    for defaults, name in changed:
        defaults[name] = other
    try:
        yield
    finally:
        for defaults, name in changed:
            defaults[name] = original


def _own_modules() -> list[ModuleType]:
    return [m for name, m in list(sys.modules.items()) if name.startswith("tenantplane.") and m]


@contextmanager
def _sql_file(module: ModuleType, name: str, text: str) -> Iterator[None]:
    """The module reads its SQL from a copy of its folder, in which this file is another."""
    copy = Path(tempfile.mkdtemp(prefix="tenantplane-mutant-"))
    statement = module.statement
    try:
        shutil.copytree(module._FOLDER, copy, dirs_exist_ok=True)
        (copy / name).write_text(text, encoding="utf-8")
        statement.cache_clear()
        with _replaced(module, "_FOLDER", copy):
            yield
    finally:
        statement.cache_clear()
        shutil.rmtree(copy)


@contextmanager
def _function(module: ModuleType, qualified: str, source: str) -> Iterator[None]:
    """Its code is exchanged and its identity kept, so that whoever imported it calls the new one."""
    function = _raw(module, qualified)
    before = function.__code__
    function.__code__ = _compiled(module, before, source)
    try:
        yield
    finally:
        function.__code__ = before


def _raw(module: ModuleType, qualified: str) -> FunctionType:
    owner, _, name = qualified.rpartition(".")
    found: Any = vars(vars(module)[owner] if owner else module)[name]
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, FunctionType), f"{qualified} of {module.__name__} is no function"
    return found


def _compiled(module: ModuleType, before: CodeType, source: str) -> CodeType:
    filename = f"<mutant of {module.__name__}>"
    flags = __future__.annotations.compiler_flag
    # Within a function that has the names of its surroundings: super() needs __class__. Its own is
    # not one of them: who calls itself asks the module.
    around = [f"global {before.co_name}", *(f"{name} = None" for name in before.co_freevars)]
    lines = ["def surroundings():", *(f"    {line}" for line in (*around, *source.splitlines()))]
    whole = compile("\n".join(lines), filename, "exec", flags=flags, dont_inherit=True)
    outer = next(c for c in whole.co_consts if isinstance(c, CodeType))
    found = next(
        c for c in outer.co_consts if isinstance(c, CodeType) and c.co_name == before.co_name
    )
    if found.co_freevars != before.co_freevars:
        raise NotApplied(f"{before.co_name} of {module.__name__} needs names of its surroundings")
    return found
