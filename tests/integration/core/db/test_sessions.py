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
@pytest.mark.parametrize("steps", range(12))
async def test_who_is_cancelled_as_its_connection_comes_does_not_go_on(
    single: Database, steps: int
) -> None:
    """At whatever step of the way from one who gives it back to one who waited for it."""
    waits_for_ever = asyncio.Event()

    async def work() -> None:
        async with single.tenant_tx("acme"):
            await waits_for_ever.wait()

    async with single.tenant_tx("globex"):
        task = asyncio.create_task(work())
        for _ in range(10):
            await asyncio.sleep(0)
        assert single._app.get_stats()["requests_waiting"] == 1
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()
    assert await residue(single) == ([], "")


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


# What SQL leaves in its session, and what the next user of that session must read instead.
LEFT_BEHIND = {
    "role": ("SET ROLE {query}", "SELECT current_user = session_user AS clean"),
    "statement_timeout": (
        "SET statement_timeout = '200ms'",
        "SELECT current_setting('statement_timeout') = '30s' AS clean",
    ),
    "row_security": (
        "SET row_security = off",
        "SELECT current_setting('row_security') = 'on' AS clean",
    ),
    "synchronous_commit": (
        "SET synchronous_commit = off",
        "SELECT current_setting('synchronous_commit') = 'on' AS clean",
    ),
    "standard_conforming_strings": (
        "SET standard_conforming_strings = off",
        "SELECT current_setting('standard_conforming_strings') = 'on' AS clean",
    ),
    "DateStyle": (
        "SET DateStyle = 'German'",
        "SELECT current_setting('DateStyle') LIKE 'ISO%' AS clean",
    ),
    "TimeZone": (
        "SET TimeZone = 'Pacific/Kiritimati'",
        "SELECT current_setting('TimeZone') <> 'Pacific/Kiritimati' AS clean",
    ),
    "setting of the attacker's own": (
        "SET evil.note = 'of acme'",
        "SELECT coalesce(current_setting('evil.note', true), '') = '' AS clean",
    ),
    "read-only default": (
        "SET default_transaction_read_only = on",
        "SELECT current_setting('transaction_read_only') = 'off' AS clean",
    ),
    "isolation default": (
        "SET default_transaction_isolation = 'serializable'",
        "SELECT current_setting('transaction_isolation') = 'read committed' AS clean",
    ),
    "cursor held over the commit": (
        "DECLARE held CURSOR WITH HOLD FOR SELECT body FROM note",
        "SELECT count(*) = 0 AS clean FROM pg_cursors WHERE name = 'held'",
    ),
}


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16")
@pytest.mark.parametrize("kind", LEFT_BEHIND)
async def test_what_sql_leaves_in_a_session_does_not_reach_its_next_user(
    provision_database: ProvisionDatabase, kind: str
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    leave, observe = LEFT_BEHIND[kind]
    leave = leave.format(query=provisioned.bootstrapped.role("query"))
    database = Database(provisioned.settings.model_copy(update={"pool_max": 1}), name="data")
    await database.open()
    try:
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute("INSERT INTO note (org_id, body) VALUES ('acme', 'of acme')")
            await cursor.execute(leave.encode())
            session = cursor.connection.info.backend_pid
        async with database.tenant_tx("globex") as cursor:
            assert cursor.connection.info.backend_pid == session, "this proves nothing"
            row = await (await cursor.execute(observe.encode())).fetchone()
            assert row == {"clean": True}
            assert await (await cursor.execute("SELECT body FROM note")).fetchall() == []
    finally:
        await database.close()


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
async def test_the_last_number_of_a_sequence_is_not_told_to_the_next_user(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    async with await psycopg.AsyncConnection.connect(provisioned.owner_dsn) as owner:
        app = psycopg.sql.Identifier(provisioned.bootstrapped.role("app"))
        await owner.execute("CREATE SEQUENCE ticket")
        await owner.execute(psycopg.sql.SQL("GRANT USAGE ON ticket TO {}").format(app))
    database = Database(provisioned.settings.model_copy(update={"pool_max": 1}), name="data")
    await database.open()
    try:
        async with database.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT nextval('ticket')")
        async with database.tenant_tx("globex") as cursor:
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                await cursor.execute("SELECT lastval()")
    finally:
        await database.close()


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16")
@pytest.mark.parametrize(
    "leave",
    ['PREPARE "_pg3_0" AS SELECT body FROM note', "LISTEN gossip"],
    ids=["PREPARE", "LISTEN"],
)
async def test_a_session_that_could_act_for_the_last_tenant_is_dropped(
    single: Database, leave: str
) -> None:
    """Under the name of one of the driver's own statements, one of SQL would run as the next."""
    async with single.tenant_tx("acme") as cursor:
        session = cursor.connection.info.backend_pid
        await cursor.execute(leave.encode())
    with pytest.raises(DependencyUnavailable, match="spoilt") as refused:
        async with single.tenant_tx("globex"):
            pytest.fail("entered")
    assert refused.value.retry_after_seconds is not None
    async with single.tenant_tx("globex") as cursor:
        assert cursor.connection.info.backend_pid != session


@pytest.mark.fault("F14", "F16")
async def test_a_session_that_lost_its_prepared_statements_serves_nobody_any_more(
    single: Database,
) -> None:
    async def read() -> int:
        async with single.tenant_tx("acme") as cursor:
            await cursor.execute("SELECT body FROM note WHERE org_id = %s", ("acme",), prepare=True)
            return cursor.connection.info.backend_pid

    session = await read()
    async with single.tenant_tx("globex") as cursor:
        await cursor.execute("""DEALLOCATE "_pg3_0" """)
    with pytest.raises(DependencyUnavailable, match="spoilt"):
        await read()
    assert await read() != session


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


@pytest.mark.req("R7")
async def test_an_org_with_stuck_queries_leaves_sessions_to_its_neighbours(
    provision_database: ProvisionDatabase,
) -> None:
    provisioned = await provision_database("data", TOY_PLANE)
    settings = provisioned.settings.model_copy(update={"pool_max": 3})
    database = Database(settings, name="data")
    await database.open()
    stuck = asyncio.Event()
    entered = asyncio.Semaphore(0)

    async def hold() -> None:
        async with database.tenant_tx("noisy"):
            entered.release()
            await stuck.wait()

    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(20):
                tasks.create_task(hold())
            for _ in range(2):
                await entered.acquire()
            async with database.tenant_tx("quiet") as cursor:
                await cursor.execute("SELECT body FROM note")
            assert entered.locked(), "a third of one org got in"
            stuck.set()
    finally:
        await database.close()
