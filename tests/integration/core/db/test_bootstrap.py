from __future__ import annotations

import secrets

import psycopg
import pytest
from psycopg import sql

from tenantplane.core.db.bootstrap import RolePasswords, bootstrap
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable


async def run(dsn: str, query: sql.Composed | bytes) -> list[tuple[object, ...]]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        cursor = await connection.execute(query)
        return await cursor.fetchall() if cursor.description else []


async def test_it_can_run_again_and_rotates_passwords(postgres: EmbeddedPostgres) -> None:
    name = f"control_{secrets.token_hex(4)}"
    old, new = RolePasswords.generate(), RolePasswords.generate()
    for passwords in (old, old, new):
        made = await bootstrap(
            postgres.admin_dsn(), "control", passwords, dbname=name, role_prefix=f"tp_{name}"
        )
        assert made.degraded == ()
    app = made.role("app")
    assert await run(postgres.dsn(app, new.app, name), b"SELECT current_user") == [(app,)]
    with pytest.raises(psycopg.OperationalError):
        await run(postgres.dsn(app, old.app, name), b"SELECT 1")


@pytest.mark.fault("F14")
async def test_a_plane_cannot_enter_another_database(postgres: EmbeddedPostgres) -> None:
    """Not the other plane's, and none of the server's own."""
    names = [f"{kind}_{secrets.token_hex(4)}" for kind in ("control", "data")]
    passwords = RolePasswords.generate()
    for kind, name in zip(("control", "data"), names, strict=True):
        await bootstrap(
            postgres.admin_dsn(),
            "control" if kind == "control" else "data",
            passwords,
            dbname=name,
            role_prefix=f"tp_{name}",
        )
    for other in (names[0], "postgres", "template1"):
        for kind in ("owner", "app", "system", "backup"):
            dsn = postgres.dsn(f"tp_{names[1]}_{kind}", getattr(passwords, kind), other)
            with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
                await run(dsn, b"SELECT 1")
    vectors = await run(
        postgres.admin_dsn(names[1]), b"SELECT extname FROM pg_extension WHERE extname = 'vector'"
    )
    assert vectors == [("vector",)]


async def test_an_administrator_without_superuser_is_told_what_stays_open(
    postgres: EmbeddedPostgres,
) -> None:
    suffix = secrets.token_hex(4)
    admin, password = f"managed_{suffix}", secrets.token_urlsafe(12)
    await run(
        postgres.admin_dsn(),
        sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}").format(
            sql.Identifier(admin), sql.Literal(password)
        ),
    )
    await run(
        postgres.admin_dsn(),
        sql.SQL("GRANT CONNECT ON DATABASE postgres TO {}").format(sql.Identifier(admin)),
    )
    passwords = RolePasswords.generate()
    for _ in range(2):
        made = await bootstrap(
            postgres.dsn(admin, password, "postgres"),
            "data",
            passwords,
            dbname=f"data_{suffix}",
            role_prefix=f"tp_data_{suffix}",
        )
        assert "pg_terminate_backend(integer,bigint)" in made.degraded
        assert f"role tp_data_{suffix}_backup without BYPASSRLS: it cannot dump" in made.degraded
        assert "extension vector: have it created by a superuser" in made.degraded
        assert "temporary tables" not in made.degraded


async def test_what_it_cannot_do_is_said(postgres: EmbeddedPostgres) -> None:
    passwords = RolePasswords.generate()
    assert passwords.app not in repr(passwords)
    with pytest.raises(ConfigurationRefused, match="cannot name a database"):
        await bootstrap(postgres.admin_dsn(), "data", passwords, dbname='x"; DROP')
    with pytest.raises(DependencyUnavailable):
        await bootstrap(postgres.dsn("nobody", "wrong-word", "postgres"), "data", passwords)
