"""What the bootstrap takes from the role query and leaves to the others, on both servers."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import psycopg
import pytest

from tenantplane.core.db.bootstrap import Bootstrapped, RolePasswords, bootstrap
from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.db.query import QueryLimits, run_query
from tenantplane.core.errors import Unprocessable
from tests.fixtures.postgres import MakeDatabase
from tests.fixtures.postgres_15 import Postgres15

TOY_PLANE = Path(__file__).parent / "toy_plane"


async def twice(admin_dsn: str) -> tuple[Bootstrapped, RolePasswords]:
    suffix, passwords = secrets.token_hex(4), RolePasswords.generate()
    for _ in range(2):
        made = await bootstrap(
            admin_dsn,
            "control",
            passwords,
            dbname=f"control_{suffix}",
            role_prefix=f"tp_control_{suffix}",
        )
        assert made.degraded == ()
    return made, passwords


@pytest.fixture(params=["18", "15"])
def admin_dsn(request: pytest.FixtureRequest) -> str:
    name = "postgres" if request.param == "18" else "postgres_15"
    server: EmbeddedPostgres | Postgres15 = request.getfixturevalue(name)
    return server.admin_dsn()


async def test_the_other_roles_read_the_catalogue_as_ever(admin_dsn: str) -> None:
    """A second bootstrap finds nothing to take away, and must not take the grants either."""
    made, passwords = await twice(admin_dsn)
    for kind in ("owner", "app", "system", "backup"):
        dsn = psycopg.conninfo.make_conninfo(
            admin_dsn,
            dbname=made.dbname,
            user=made.role(kind),
            password=getattr(passwords, kind),
        )
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            for query in (
                "SELECT count(*) FROM pg_class",
                "SELECT count(*) FROM information_schema.tables",
                "SELECT current_setting('server_version'), pg_backend_pid()",
                "SELECT pg_table_size('pg_class'), obj_description('pg_class'::regclass)",
            ):
                assert await (await connection.execute(query.encode())).fetchall()
    # A stranger to the database, were it let in, has what PUBLIC has.
    async with await psycopg.AsyncConnection.connect(
        psycopg.conninfo.make_conninfo(admin_dsn, dbname=made.dbname)
    ) as admin:
        await admin.execute(f"SET ROLE {made.role('query')}".encode())
        for query in ("SELECT * FROM pg_class", "SELECT pg_sleep(0)", "SELECT pg_backend_pid()"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                async with admin.transaction():
                    await admin.execute(query.encode())


@pytest.mark.fault("F14")
async def test_app_may_become_query_and_inherits_nothing_of_it(admin_dsn: str) -> None:
    made, passwords = await twice(admin_dsn)
    dsn = psycopg.conninfo.make_conninfo(
        admin_dsn, dbname=made.dbname, user=made.role("app"), password=passwords.app
    )
    async with await psycopg.AsyncConnection.connect(dsn) as app:
        cursor = await app.execute(
            "SELECT r.rolinherit AS inherits, pg_has_role(%s, 'MEMBER') AS member,"
            " pg_has_role(%s, 'USAGE') AS uses, current_setting('temp_file_limit') AS disk"
            " FROM pg_roles r WHERE r.rolname = current_user",
            (made.role("query"), made.role("query")),
        )
        assert await cursor.fetchone() == (False, True, False, "1GB")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await app.execute("SET temp_file_limit = -1")


async def test_an_administrator_without_superuser_is_told(postgres: EmbeddedPostgres) -> None:
    suffix, password = secrets.token_hex(4), secrets.token_urlsafe(12)
    admin = f"managed_{suffix}"
    async with await psycopg.AsyncConnection.connect(
        postgres.admin_dsn(), autocommit=True
    ) as superuser:
        for command in (
            f"CREATE ROLE {admin} LOGIN CREATEDB CREATEROLE PASSWORD '{password}'",
            f"GRANT CONNECT ON DATABASE postgres TO {admin}",
        ):
            await superuser.execute(command.encode())
    made = await bootstrap(
        postgres.dsn(admin, password, "postgres"),
        "control",
        RolePasswords.generate(),
        dbname=f"control_{suffix}",
        role_prefix=f"tp_control_{suffix}",
    )
    told = " ".join(made.degraded)
    for part in ("pg_sleep", "tables of the catalogue", "DO blocks", "temporary files"):
        assert part in told


async def test_one_row_of_a_gigabyte_does_not_arrive(make_database: MakeDatabase) -> None:
    database = await make_database("data", TOY_PLANE)
    with pytest.raises(Unprocessable) as refused:
        await run_query(database, "acme", {}, "SELECT repeat('x', 50000000)", QueryLimits())
    assert refused.value.error_code == "sql_too_large"


async def test_an_answer_is_cut_by_rows_and_by_size(make_database: MakeDatabase) -> None:
    database = await make_database("data", TOY_PLANE)

    async def ask(text: str, **limits: int) -> tuple[int, bool]:
        answer = await run_query(database, "acme", {}, text, QueryLimits.model_validate(limits))
        return len(answer.rows), answer.cut

    series = "SELECT i FROM generate_series(1, {}) i"
    assert await ask(series.format(5), rows=5) == (5, False)
    assert await ask(series.format(6), rows=5) == (5, True)
    assert await ask(series.format(51), rows=50) == (50, True)
    assert await ask("SELECT repeat('x', 400) FROM generate_series(1, 9)", answer_chars=1000) == (
        2,
        True,
    )


async def test_the_reason_is_told_and_percent_signs_are_text(make_database: MakeDatabase) -> None:
    database: Database = await make_database("data", TOY_PLANE)
    for text in ("SELECT 1/0", "SELECT nothing", "SELECT pg_sleep(9)"):
        with pytest.raises(Unprocessable) as refused:
            await run_query(database, "acme", {}, text, QueryLimits(seconds=0.5))
        assert refused.value.error_code == "sql_refused"
    answer = await run_query(database, "acme", {}, 'SELECT 100 % 7 AS "a%s"', QueryLimits())
    assert answer.rows == ('{"a%s":2}',)


async def test_many_fetches_within_the_servers_limit_end_all_the_same(
    make_database: MakeDatabase,
) -> None:
    """The server's time-out is for each fetch; the client's is for the whole."""
    database = await make_database("data", TOY_PLANE)
    text = (
        "SELECT i, (SELECT sum(j + i) FROM generate_series(1, 10000) j)"
        " FROM generate_series(1, 10000) i"
    )
    limits = QueryLimits(seconds=1.0, cost=1e9, rows=10_000, answer_chars=1_000_000)
    began = time.monotonic()
    with pytest.raises(Unprocessable) as refused:
        await run_query(database, "acme", {}, text, limits)
    assert refused.value.error_code == "sql_timeout"
    assert time.monotonic() - began < 10
    # What was cancelled leaves a connection that serves on.
    assert (await run_query(database, "acme", {}, "SELECT 1 AS a", limits)).rows == ('{"a":1}',)
