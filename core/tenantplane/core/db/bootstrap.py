"""Makes a logical database and its five roles. Run by an administrator, as often as one likes.

owner   migrations alone; owns everything; its own explicit policies (FORCE silences it too)
app     tenant-scoped; owns nothing; may SET ROLE query
system  named cross-tenant jobs, by policies of its own
query   SQL that a model wrote; cannot log in, cannot call set_config
backup  BYPASSRLS, for dumps alone
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Literal, LiteralString

import psycopg
from psycopg import AsyncConnection, AsyncCursor, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import DictRow, dict_row

from tenantplane.core.db.statements import statement
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable

DatabaseKind = Literal["control", "data"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
# One bootstrap at a time on a server: two that revoke on the same catalogue row fail each other.
_LOCK_KEY = 0x7470_6462

_POSTGRES_16 = 160_000

_NO_POWERS: LiteralString = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
_ATTRIBUTES: dict[str, tuple[LiteralString, LiteralString, LiteralString]] = {
    "owner": ("LOGIN", "INHERIT", "NOBYPASSRLS"),
    "app": ("LOGIN", "NOINHERIT", "NOBYPASSRLS"),
    "system": ("LOGIN", "NOINHERIT", "NOBYPASSRLS"),
    "query": ("NOLOGIN", "NOINHERIT", "NOBYPASSRLS"),
    "backup": ("LOGIN", "NOINHERIT", "BYPASSRLS"),
}
# A transaction that waits inside a request holds rows and the shipper's horizon: bounded.
_BOUNDS: dict[str, tuple[LiteralString, ...]] = {
    "app": (
        "SET statement_timeout = '30s'",
        "SET lock_timeout = '10s'",
        "SET idle_in_transaction_session_timeout = '60s'",
    ),
    "system": (
        "SET statement_timeout = '5min'",
        "SET lock_timeout = '10s'",
        "SET idle_in_transaction_session_timeout = '60s'",
    ),
}


@dataclass(frozen=True)
class RolePasswords:
    """Passwords of the roles that log in. `query` has none: it is entered by SET ROLE alone."""

    owner: str = field(repr=False)
    app: str = field(repr=False)
    system: str = field(repr=False)
    backup: str = field(repr=False)

    @classmethod
    def generate(cls) -> RolePasswords:
        """Fresh passwords of 192 bits each."""
        return cls(*(secrets.token_urlsafe(24) for _ in range(4)))


@dataclass(frozen=True)
class Bootstrapped:
    """What the bootstrap left: names, and what the server did not let it revoke."""

    dbname: str
    role_prefix: str
    degraded: tuple[str, ...]

    def role(self, kind: str) -> str:
        """The name of one of the five roles: `role("app")` → `tp_data_app`."""
        return f"{self.role_prefix}_{kind}"


async def bootstrap(
    admin_dsn: str,
    database: DatabaseKind,
    passwords: RolePasswords,
    *,
    dbname: str | None = None,
    role_prefix: str | None = None,
) -> Bootstrapped:
    """Creates the database `dbname` (default: `database`) and the roles `<role_prefix>_…`
    (default `tp_<database>_…`), and takes from PUBLIC what tenants must not have.

    Idempotent; existing roles get the given passwords. On a managed server, whose administrator is
    no superuser, some revokes are impossible: they are reported in `degraded`, not fatal.

    Raises ConfigurationRefused (bad names, missing rights), DependencyUnavailable.
    """
    made = Bootstrapped(dbname or database, role_prefix or f"tp_{database}", ())
    for name in (made.dbname, made.role_prefix):
        if not _NAME.fullmatch(name):
            raise ConfigurationRefused(
                f"{name!r} cannot name a database or a role.",
                hint="Use at most 41 characters of a-z, 0-9 and '_', starting with a letter.",
            )
    try:
        async with await _connect(admin_dsn) as admin:
            async with admin.cursor() as cursor:
                await cursor.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
                await _roles(cursor, made, passwords)
                await _database(cursor, made)
            async with await _connect(make_conninfo(admin_dsn, dbname=made.dbname)) as inside:
                degraded = await _inside(inside, made, with_vectors=database == "data")
    except psycopg.errors.InsufficientPrivilege as refused:
        raise ConfigurationRefused(
            f"The administrator may not bootstrap {made.dbname!r}: {refused.diag.message_primary}.",
            hint="Give a role with CREATEDB and CREATEROLE at least.",
        ) from refused
    except psycopg.OperationalError as failed:
        raise DependencyUnavailable(
            f"Postgres is not available for the bootstrap: {type(failed).__name__}.",
            retry_after_seconds=2,
        ) from failed
    return Bootstrapped(made.dbname, made.role_prefix, degraded)


async def _connect(dsn: str) -> AsyncConnection[DictRow]:
    return await AsyncConnection.connect(dsn, autocommit=True, row_factory=dict_row)


async def _roles(
    cursor: AsyncCursor[DictRow], made: Bootstrapped, passwords: RolePasswords
) -> None:
    for kind in _ATTRIBUTES:
        await _role(cursor, kind, made.role(kind))
        if kind != "query":
            await _password(cursor, made.role(kind), getattr(passwords, kind))
        for bound in _BOUNDS.get(kind, ()):
            await cursor.execute(
                sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(made.role(kind)), sql.SQL(bound))
            )
    await _membership(cursor, made.role("query"), made.role("app"))


async def _membership(cursor: AsyncCursor[DictRow], role: str, member: str) -> None:
    # Before Postgres 16 there are no such options: what is inherited is the member's attribute
    # (NOINHERIT), and whoever is a member may SET ROLE.
    options = "WITH INHERIT FALSE, SET TRUE, ADMIN FALSE"
    has_options = cursor.connection.info.server_version >= _POSTGRES_16
    await cursor.execute(
        sql.SQL("GRANT {} TO {} {}").format(
            sql.Identifier(role),
            sql.Identifier(member),
            sql.SQL(options if has_options else ""),
        )
    )


async def _role(cursor: AsyncCursor[DictRow], kind: str, name: str) -> None:
    login, inherit, bypass = _ATTRIBUTES[kind]
    await cursor.execute(statement("role_attributes"), (name,))
    there = await cursor.fetchone()
    wanted = {
        "powers": False,
        "login": login == "LOGIN",
        "inherit": inherit == "INHERIT",
        "bypass": bypass == "BYPASSRLS",
    }
    # Only where it differs: a managed server refuses even to take away what a role has not got.
    if there == wanted:
        return
    verb = sql.SQL("ALTER ROLE" if there else "CREATE ROLE")
    command = sql.SQL("{} {} WITH {} {} {} {}")
    role, attributes = sql.Identifier(name), [sql.SQL(a) for a in (login, inherit)]
    try:
        await cursor.execute(
            command.format(verb, role, *attributes, sql.SQL(bypass), sql.SQL(_NO_POWERS))
        )
    except psycopg.errors.InsufficientPrivilege:
        if kind != "backup":
            raise
        if there is None:  # a managed server keeps BYPASSRLS to itself: reported by _inside
            await cursor.execute(
                command.format(verb, role, *attributes, sql.SQL("NOBYPASSRLS"), sql.SQL(_NO_POWERS))
            )


async def _password(cursor: AsyncCursor[DictRow], role: str, password: str) -> None:
    # Hashed here: the statement, and so the server's log, sees the SCRAM verifier alone.
    verifier = cursor.connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    await cursor.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(verifier.decode("ascii"))
        )
    )


async def _database(cursor: AsyncCursor[DictRow], made: Bootstrapped) -> None:
    database, owner = sql.Identifier(made.dbname), sql.Identifier(made.role("owner"))
    await cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    row = await cursor.fetchone()
    superuser = row is not None and row["rolsuper"]
    if not superuser:  # a managed server: only a member may make things that the owner owns
        await cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(owner))
    await cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (made.dbname,))
    if await cursor.fetchone() is None:
        await cursor.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'").format(
                database, owner
            )
        )
    if superuser:
        # Otherwise a role of one plane could connect there, and keep tables in template1.
        await cursor.execute("REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")


async def _inside(
    connection: AsyncConnection[DictRow], made: Bootstrapped, *, with_vectors: bool
) -> tuple[str, ...]:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.execute("SELECT set_config('tp.role_prefix', %s, true)", (made.role_prefix,))
        await cursor.execute(statement("bootstrap_database"))
        lacking = await _vector_extension(cursor) if with_vectors else []
        rows = await (await cursor.execute(statement("degraded"))).fetchall()
        await cursor.execute(statement("role_attributes"), (made.role("backup"),))
        backup = await cursor.fetchone()
    degraded = [row["subject"] for row in rows] + lacking
    if backup is None or not backup["bypass"]:
        degraded.append(f"role {made.role('backup')} without BYPASSRLS: it cannot dump")
    return tuple(degraded)


async def _vector_extension(cursor: AsyncCursor[DictRow]) -> list[str]:
    """What is missing for vectors."""
    await cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
    if await cursor.fetchone() is None:
        return ["extension vector is not on this server: no vector search"]
    try:
        async with cursor.connection.transaction():
            await cursor.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
    except psycopg.errors.InsufficientPrivilege:
        return ["extension vector: have it created by a superuser"]
    return []
