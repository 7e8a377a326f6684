"""What one user of a connection can leave to the next, and what a broken server looks like."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tests.fixtures.postgres import MakeDatabase, ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"


@pytest.fixture
async def single(provision_database: ProvisionDatabase) -> Any:
    """A database whose pool has one connection, so that everybody gets the same one."""
    provisioned = await provision_database("data", TOY_PLANE)
    database = Database(provisioned.settings.model_copy(update={"pool_max": 1}), name="data")
    await database.open()
    async with database.tenant_tx("acme") as cursor:
        await cursor.execute("INSERT INTO note (org_id, body) VALUES ('acme', 'of acme')")
    yield database
    await database.close()


async def residue(database: Database) -> tuple[list[Any], str]:
    async with database.unscoped_tx() as cursor:
        rows = await (await cursor.execute("SELECT body FROM note")).fetchall()
        setting = await (
            await cursor.execute("SELECT current_setting('app.current_tenant') AS tenant")
        ).fetchone()
        assert setting is not None
        return rows, setting["tenant"]


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
async def test_a_cancelled_transaction_leaves_nothing(single: Database) -> None:
    entered = asyncio.Event()

    async def work() -> None:
        async with single.tenant_tx("acme") as cursor:
            await cursor.execute("INSERT INTO note (org_id, body) VALUES ('acme', 'cancelled')")
            entered.set()
            await cursor.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await residue(single) == ([], "")
    async with single.tenant_tx("acme") as cursor:
        assert len(await (await cursor.execute("SELECT * FROM note")).fetchall()) == 1


@pytest.mark.fault("F16")
async def test_a_timed_out_transaction_leaves_nothing(single: Database) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), single.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT pg_sleep(30)")
    assert await residue(single) == ([], "")


@pytest.mark.fault("F16")
async def test_an_exception_rolls_back_and_leaves_nothing(single: Database) -> None:
    async def work() -> None:
        async with single.tenant_tx("acme") as cursor:
            await cursor.execute("DELETE FROM note")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await work()
    assert await residue(single) == ([], "")
    async with single.tenant_tx("acme") as cursor:
        assert len(await (await cursor.execute("SELECT * FROM note")).fetchall()) == 1


@pytest.mark.fault("F14", "F16")
async def test_settings_left_in_the_session_do_not_reach_the_next_user(single: Database) -> None:
    """Injected SQL may SET without LOCAL: the next transaction overrides all that matters."""
    async with single.tenant_tx("acme") as cursor:
        await cursor.execute("SET app.current_tenant = 'acme'")
        await cursor.execute("SET search_path = evil, public")
    assert await residue(single) == ([], "")
    async with single.tenant_tx("globex") as cursor:
        row = await (
            await cursor.execute(
                "SELECT current_setting('search_path') AS path, tp.current_org() AS org"
            )
        ).fetchone()
        assert row == {"path": "public, pg_temp", "org": "globex"}


@pytest.mark.fault("F14", "F16")
async def test_a_session_left_in_another_role_is_dropped(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    database = Database(provisioned.settings.model_copy(update={"pool_max": 1}), name="data")
    await database.open()
    try:
        async with database.tenant_tx("acme") as cursor:
            before = cursor.connection.info.backend_pid
            query = psycopg.sql.Identifier(provisioned.bootstrapped.role("query"))
            await cursor.execute(psycopg.sql.SQL("SET ROLE {}").format(query))
        with pytest.raises(DependencyUnavailable, match="spoilt"):
            async with database.tenant_tx("globex"):
                pytest.fail("entered")
        async with database.tenant_tx("globex") as cursor:
            assert cursor.connection.info.backend_pid != before
    finally:
        await database.close()


async def test_an_exhausted_pool_is_a_dependency_that_says_when_to_retry(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    tight = provisioned.settings.model_copy(update={"pool_max": 1, "pool_wait_seconds": 2.0})
    database = Database(tight, name="data")
    await database.open()
    try:
        async with database.tenant_tx("acme"):
            with pytest.raises(DependencyUnavailable, match="PoolTimeout") as refused:
                async with database.tenant_tx("globex"):
                    pytest.fail("entered")
            assert refused.value.retry_after_seconds is not None
    finally:
        await database.close()


async def test_an_unreachable_server_is_a_dependency_and_shows_no_dsn(
    provision_database: ProvisionDatabase, postgres: EmbeddedPostgres
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    wrong = SecretStr(postgres.dsn("tp_nobody", "wrong-word", "data"))
    settings = provisioned.settings.model_copy(update={"app_dsn": wrong, "pool_wait_seconds": 1.0})
    with pytest.raises(DependencyUnavailable) as refused:
        await Database(settings, name="data").open()
    assert "wrong-word" not in str(refused.value)
    assert "tp_nobody" not in str(refused.value)


async def test_appends_of_many_tenants_share_a_commit_and_a_bad_row_fails_alone(
    make_database: MakeDatabase,
) -> None:
    database = await make_database("data", TOY_PLANE)
    orgs = ["acme", "globex", "acme"]
    proofs = [database.proof_for("acme"), database.proof_for("acme"), database.proof_for("acme")]
    async with database.append_connection() as connection:
        rows = await (
            await connection.execute(
                "SELECT ordinal FROM append_notes(%s, %s, %s)", (orgs, proofs, ["1", "2", "3"])
            )
        ).fetchall()
        assert [row["ordinal"] for row in rows] == [1, 3]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("INSERT INTO note (org_id, body) VALUES ('acme', 'x')")
        assert await (await connection.execute("SELECT * FROM note")).fetchall() == []
    async with database.tenant_tx("globex") as cursor:
        assert await (await cursor.execute("SELECT * FROM note")).fetchall() == []
    async with database.tenant_tx("acme") as cursor:
        assert len(await (await cursor.execute("SELECT * FROM note")).fetchall()) == 2


async def test_listening_goes_on_after_the_connection_is_cut(
    make_database: MakeDatabase, postgres: EmbeddedPostgres
) -> None:
    database = await make_database("data", TOY_PLANE)
    async with aclosing(database.listen("wake")) as heard:
        assert await anext(heard) == ""
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT pg_notify('wake', 'one')")
            dbname = cursor.connection.info.dbname
        assert await anext(heard) == "one"
        async with await psycopg.AsyncConnection.connect(
            postgres.admin_dsn(), autocommit=True
        ) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name LIKE '%%-listen'",
                (dbname,),
            )
        assert await anext(heard) == ""  # connected again: read the truth anew
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT pg_notify('wake', 'two')")
        assert await anext(heard) == "two"


async def test_listening_outlives_any_error_of_the_driver(
    make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever listens has no second listener: planes would hear of no change any more."""
    database = await make_database("data", TOY_PLANE)
    connect = database._connect
    errors = [psycopg.DatabaseError("lost synchronization with server"), psycopg.InterfaceError()]

    async def connect_in_the_end(dsn: str, use: str) -> Any:
        if errors:
            raise errors.pop()
        return await connect(dsn, use)

    monkeypatch.setattr(database, "_connect", connect_in_the_end)
    async with aclosing(database.listen("wake")) as heard:
        assert await anext(heard) == ""
