"""A connection handed back with something left in its session: the next user has none of it, in a
tenant's transaction, in nobody's, and in a system job's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from psycopg import AsyncCursor, sql

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tests.fixtures.ledger import MIGRATIONS
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof
LITTER = system_job("tests.litter", "leaves things in its session, for the next to find")

Enter = Callable[[Database], AbstractAsyncContextManager[AsyncCursor[Any]]]
ENTRIES: Final[dict[str, Enter]] = {
    "_ENTER_TENANT": lambda db: db.tenant_tx("globex"),
    "_ENTER_TENANT, no tenant": lambda db: db.unscoped_tx(),
    "_ENTER_SYSTEM": lambda db: db.system_tx(LITTER),
}
# What is left, and what the next one must read instead.
LEFT: Final[dict[str, tuple[str, str]]] = {
    "search path": (
        "SET search_path = tp, pg_temp",
        "SELECT current_setting('search_path') = 'public, pg_temp' AS clean",
    ),
    "tenant": (
        "SET app.current_tenant = 'acme'",
        "SELECT coalesce(current_setting('app.current_tenant', true), '') <> 'acme' AS clean",
    ),
    "proof": (
        "SET app.tenant_proof = 'k1.1.0'",
        "SELECT coalesce(current_setting('app.tenant_proof', true), '') <> 'k1.1.0' AS clean",
    ),
    "time-out": (
        "SET statement_timeout = '1234ms'",
        "SELECT current_setting('statement_timeout') <> '1234ms' AS clean",
    ),
    "row security": (
        "SET row_security = off",
        "SELECT current_setting('row_security') = 'on' AS clean",
    ),
    "held cursor": (
        "DECLARE held CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) = 0 AS clean FROM pg_cursors WHERE name = 'held'",
    ),
    "read only": (
        "SET default_transaction_read_only = on",
        "SELECT current_setting('transaction_read_only') = 'off' AS clean",
    ),
    "isolation": (
        "SET default_transaction_isolation = 'serializable'",
        "SELECT current_setting('transaction_isolation') = 'read committed' AS clean",
    ),
}
# With these in it a session must not serve again at all.
SPOILT: Final = {
    "prepared": 'PREPARE "_pg3_0" AS SELECT 1',
    "listening": "LISTEN gossip",
}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared(provision_database: ProvisionDatabase) -> AsyncIterator[Database]:
    """One connection for everybody."""
    provisioned = await provision_database("data", Path(MIGRATIONS))
    database = Database(provisioned.settings.model_copy(update={"pool_max": 1}), name="data")
    try:
        await database.open()
        yield database
    finally:
        await database.close()


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
@pytest.mark.parametrize("entry", ENTRIES)
async def test_the_next_user_of_a_session_has_nothing_of_the_last(
    shared: Database, entry: str, proof_cases: ProofCases
) -> None:
    enter = ENTRIES[entry]
    for what, (leave, look) in LEFT.items():
        async with enter(shared) as cursor:
            session = cursor.connection.info.backend_pid
            await cursor.execute(sql.SQL(leave))
        async with enter(shared) as cursor:
            assert cursor.connection.info.backend_pid == session, "this proves nothing"
            await cursor.execute(sql.SQL(look))
            assert await cursor.fetchone() == {"clean": True}, what
        proof_cases.add()


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16")
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("what", SPOILT)
async def test_a_session_in_which_sql_left_a_trap_serves_nobody_again(
    shared: Database, entry: str, what: str, proof_cases: ProofCases
) -> None:
    enter = ENTRIES[entry]
    async with enter(shared) as cursor:
        session = cursor.connection.info.backend_pid
        await cursor.execute(sql.SQL(SPOILT[what]))
    try:
        async with enter(shared) as cursor:
            if cursor.connection.info.backend_pid == session:
                await cursor.execute("DEALLOCATE ALL")
                await cursor.execute("UNLISTEN *")
                pytest.fail("the session serves on")
    except DependencyUnavailable:
        pass
    async with enter(shared) as cursor:
        assert cursor.connection.info.backend_pid != session
    proof_cases.add()


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
async def test_a_tenants_context_is_not_the_next_ones(
    shared: Database, proof_cases: ProofCases
) -> None:
    """Left in the session with a good proof of its own, for each kind of entry to take over."""
    ask = "SELECT coalesce(tp.current_org(), '') AS org"
    for entry, own in (("_ENTER_TENANT", "globex"), ("_ENTER_TENANT, no tenant", "")):
        async with shared.tenant_tx("acme") as cursor:
            for name, value in (
                ("app.current_tenant", "acme"),
                ("app.tenant_proof", shared.proof_for("acme")),
            ):
                await cursor.execute("SELECT set_config(%s, %s, false)", (name, value))
        async with ENTRIES[entry](shared) as cursor:
            await cursor.execute(ask)
            assert await cursor.fetchone() == {"org": own}
    async with shared.system_tx(LITTER) as cursor:
        await cursor.execute("SELECT current_setting('application_name') AS job")
        assert await cursor.fetchone() == {"job": LITTER}
    proof_cases.add(3)


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
async def test_a_role_left_in_the_session_ends_with_its_user(
    shared: Database, proof_cases: ProofCases
) -> None:
    for entry in ("_ENTER_TENANT", "_ENTER_TENANT, no tenant"):
        async with ENTRIES[entry](shared) as cursor:
            session = cursor.connection.info.backend_pid
            await cursor.execute(
                "SELECT set_config('role', regexp_replace(session_user, 'app$', 'query'), false)"
            )
        try:
            async with ENTRIES[entry](shared) as cursor:
                assert cursor.connection.info.backend_pid == session
                await cursor.execute("SELECT current_user = session_user AS clean")
                assert await cursor.fetchone() == {"clean": True}
        except DependencyUnavailable:
            pytest.fail("the role was kept, and the session had to be dropped")
        proof_cases.add()
