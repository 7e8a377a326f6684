"""Applies plain .sql migrations: the tenancy schema's first, then a plane's. Alembic keeps order
and heads; this module gives it files instead of Python revisions, and checks that what was applied
is still what is written.

A file is named `0001_<what>.sql`, its first line is a comment that says why, and it runs in one
transaction of its own. Nothing is ever migrated down: expand first, contract in a later release.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import psycopg
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.script import Script
from alembic.script.revision import RevisionMap
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable

TENANCY_MIGRATIONS = Path(__file__).parent / "migrations"

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql", re.ASCII)


@dataclass(frozen=True)
class Migration:
    """One file. `name` is unique over both branches: `tp/0001_tenancy`."""

    name: str
    sql: str

    @property
    def revision(self) -> str:
        """Alembic's id, short since its version column holds 32 characters: `tp/0001`."""
        return self.name.partition("_")[0]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path, branch: str) -> list[Migration]:
    """The files of a folder in order.

    Raises ConfigurationRefused for a folder without migrations, a gap or a double number, a name
    out of form, or a file whose first line does not say why it exists.
    """
    migrations = []
    for number, path in enumerate(sorted(folder.glob("*.sql")), start=1):
        sql = path.read_text(encoding="utf-8")
        named = _FILE_NAME.fullmatch(path.name)
        if not named or int(named[1]) != number:
            raise ConfigurationRefused(
                f"Migration {path.name!r} is out of order.",
                hint=f"The next file is named '{number:04}_<what>.sql'.",
            )
        if not re.match(r"-- \S", sql):
            raise ConfigurationRefused(
                f"Migration {path.name!r} does not say why it exists.",
                hint="Begin the file with a line '-- <why>'.",
            )
        migrations.append(Migration(f"{branch}/{path.stem}", sql))
    if not migrations:
        raise ConfigurationRefused(f"There are no migrations in the folder {folder.name!r}.")
    return migrations


def migrate(owner_dsn: str, plane_migrations: Path) -> list[str]:
    """Applies what is missing, as owner; returns the names of what it applied, in order.

    Idempotent, and safe when two run at once: the second waits and finds the work done. A process
    that dies in mid-file leaves nothing of that file. Blocks: call it from a job or a thread.

    Raises ConfigurationRefused (no bootstrap, an applied file was edited or is gone, SQL that the
    server refuses), DependencyUnavailable.
    """
    wanted = [
        *read_migrations(TENANCY_MIGRATIONS, "tp"),
        *read_migrations(plane_migrations, "plane"),
    ]
    with _refusals(), _one_at_a_time(owner_dsn):
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: psycopg.connect(owner_dsn), poolclass=NullPool
        )
        try:
            with engine.connect() as connection:
                _refuse_edited(connection, wanted)
                return _apply(connection, wanted)
        finally:
            engine.dispose()


@contextmanager
def _one_at_a_time(owner_dsn: str) -> Iterator[None]:
    # A table lock on a connection of its own: it ends with the process, and needs no advisory lock.
    with psycopg.connect(owner_dsn) as connection:
        connection.execute("LOCK TABLE tp.migration_lock IN SHARE ROW EXCLUSIVE MODE")
        yield


def _refuse_edited(connection: Connection, wanted: list[Migration]) -> None:
    rows = connection.execute(text("SELECT name, sha256 FROM tp.migration")).all()
    connection.rollback()
    now = {m.name: m.sha256 for m in wanted}
    edited = sorted(name for name, sha256 in rows if now.get(name, sha256) != sha256)
    gone = sorted(name for name, _ in rows if name not in now)
    if edited or gone:
        raise ConfigurationRefused(
            f"Applied migrations differ from their files: edited {edited}, gone {gone}.",
            hint="Put the files back as they were released; change the schema in a new file.",
        )


def _apply(connection: Connection, wanted: list[Migration]) -> list[str]:
    applied: list[str] = []
    scripts = _scripts(connection, wanted, applied)
    revisions = RevisionMap(lambda: scripts)
    assert len(revisions.heads) == len({_branch(m.name) for m in wanted})  # also links the scripts

    def missing(heads: tuple[str, ...], _: MigrationContext) -> list[MigrationStep]:
        reached = {branch: number for branch, _, number in (h.partition("/") for h in heads)}
        return [
            RevisionStep(revisions, script, True)
            for script in scripts
            if script.revision.partition("/")[2] > reached.get(_branch(script.revision), "")
        ]

    MigrationContext.configure(
        connection,
        opts={
            "fn": missing,
            "transaction_per_migration": True,
            "version_table": "migration_head",
            "version_table_schema": "tp",
        },
    ).run_migrations()
    connection.commit()
    return applied


def _scripts(connection: Connection, wanted: list[Migration], applied: list[str]) -> list[Script]:
    scripts: list[Script] = []
    below: dict[str, str] = {}
    for migration in wanted:
        module = ModuleType(migration.name)
        module.__dict__.update(
            down_revision=below.get(_branch(migration.name)),
            upgrade=partial(_run, connection, migration, applied),
        )
        scripts.append(Script(module, migration.revision, migration.name))
        below[_branch(migration.name)] = migration.revision
    return scripts


def _branch(name: str) -> str:
    return name.partition("/")[0]


def _run(connection: Connection, migration: Migration, applied: list[str]) -> None:
    # Without parameters, so that '%' is itself and a file may hold several statements.
    connection.exec_driver_sql(migration.sql, execution_options={"no_parameters": True})
    connection.execute(
        text("INSERT INTO tp.migration (name, sha256) VALUES (:name, :sha256)"),
        {"name": migration.name, "sha256": migration.sha256},
    )
    applied.append(migration.name)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, DBAPIError) as failed:
        cause = failed.orig if isinstance(failed, DBAPIError) else failed
        if isinstance(cause, psycopg.errors.UndefinedTable | psycopg.errors.InvalidSchemaName):
            message = cause.diag.message_primary or ""
            if "migration_lock" in message or '"tp"' in message:
                raise ConfigurationRefused(
                    "The database has no tenancy schema to migrate.",
                    hint="Run the bootstrap first.",
                ) from failed
        if isinstance(cause, psycopg.OperationalError):
            raise DependencyUnavailable(
                f"Postgres is not available: {type(cause).__name__}.", retry_after_seconds=2
            ) from failed
        raise ConfigurationRefused(f"A migration was refused: {_reason(cause)}") from failed


def _reason(cause: BaseException | None) -> str:
    if isinstance(cause, psycopg.Error) and cause.diag.message_primary:
        return ". ".join(filter(None, (cause.diag.message_primary, cause.diag.message_hint)))
    return type(cause).__name__
