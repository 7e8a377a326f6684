"""A connection handed back with something left in its session: the next user has none of it, in a
tenant's transaction, in nobody's, and in a system job's."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest
import pytest_asyncio
from psycopg import AsyncCursor, sql

from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.db.provision import Provisioned
from tenantplane.core.errors import DependencyUnavailable
from tests.fixtures.ledger import MIGRATIONS
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof
LITTER = system_job("tests.litter", "leaves things in its session, for the next to find")

Way = Callable[[AsyncCursor[Any], LiteralString], Awaitable[None]]
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
# What is left by privileges that no bootstrap gives, but a managed server may not let it take: TEMP
# is PUBLIC's there. The statement that looks fails where nothing was left.
GRANTED: Final[dict[str, tuple[str, str]]] = {
    "temp table": ("CREATE TEMP TABLE litter AS SELECT 'theirs' AS row", "SELECT FROM litter"),
    "sequence": ("SELECT nextval('public.litters')", "SELECT lastval()"),
}
NOT_THERE: Final = ("42P01", "55000")  # no such table, no value of a sequence
# Ways to leave in a session what no entry takes away: it must not serve again at all.
_PREPARE: Final = "PREPARE trap AS SELECT 1"
_LISTEN: Final = "LISTEN gossip"
_SPOIL: Final = {"prepared": _PREPARE, "listening": _LISTEN}


async def _alone(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    await cursor.execute(sql.SQL(trap))


async def _among_several(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    await cursor.execute(sql.SQL("SELECT 1; " + trap + "; SELECT 2"))


async def _many_times(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    await cursor.executemany(sql.SQL(trap), [()])


async def _as_a_copy(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    with suppress(psycopg.ProgrammingError):
        async with cursor.copy(sql.SQL(trap)):
            pass


async def _as_a_stream(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    with suppress(psycopg.ProgrammingError):
        async for _ in cursor.stream(sql.SQL(trap)):
            pass


async def _in_a_block(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    await cursor.execute(sql.SQL("DO $do$ BEGIN EXECUTE {}; END $do$").format(sql.Literal(trap)))


async def _before_an_error(cursor: AsyncCursor[Any], trap: LiteralString) -> None:
    """Unlike a LISTEN, a PREPARE outlives the transaction that failed."""
    await cursor.execute(sql.SQL(trap + "; COMMIT; BEGIN; SELECT 1 / 0"))


WAYS: Final = {
    "alone": _alone,
    "among several": _among_several,
    "many times": _many_times,
    "as a copy": _as_a_copy,
    "as a stream": _as_a_stream,
    "before an error": _before_an_error,
}


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def provisioned(provision_database: ProvisionDatabase) -> Provisioned:
    return await provision_database("data", Path(MIGRATIONS))


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared(provisioned: Provisioned) -> AsyncIterator[Database]:
    """One connection for everybody."""
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
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", _SPOIL)
async def test_a_session_in_which_sql_left_a_trap_serves_nobody_again(
    shared: Database, entry: str, way: str, what: str, proof_cases: ProofCases
) -> None:
    await _serves_nobody_again(shared, ENTRIES[entry], WAYS[way], _SPOIL[what])
    proof_cases.add()


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16")
@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("what", _SPOIL)
async def test_nor_one_in_which_a_block_left_it(
    shared: Database, generous: None, entry: str, what: str, proof_cases: ProofCases
) -> None:
    await _serves_nobody_again(shared, ENTRIES[entry], _in_a_block, _SPOIL[what])
    proof_cases.add()


async def _serves_nobody_again(
    shared: Database, enter: Enter, way: Way, trap: LiteralString
) -> None:
    async with enter(shared) as cursor:  # it was looked at, and found clean
        session = cursor.connection.info.backend_pid
    with suppress(psycopg.errors.DivisionByZero):
        async with enter(shared) as cursor:
            assert cursor.connection.info.backend_pid == session, "this proves nothing"
            await way(cursor, trap)
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
            try:
                await cursor.execute(ask)
            except psycopg.errors.InsufficientPrivilege:
                pytest.fail("the proof is not its own")
            assert await cursor.fetchone() == {"org": own}
    async with shared.system_tx(LITTER) as cursor:
        await cursor.execute("SELECT current_setting('application_name') AS job")
        assert await cursor.fetchone() == {"job": LITTER}
    proof_cases.add(3)


@pytest.mark.req("R2")
@pytest.mark.fault("F16")
async def test_a_role_left_in_the_session_ends_with_its_user(
    shared: Database, generous: None, proof_cases: ProofCases
) -> None:
    """The system role may become no other, but where somebody made it a member."""
    for entry in ENTRIES:
        async with ENTRIES[entry](shared) as cursor:
            session = cursor.connection.info.backend_pid
            await cursor.execute(
                "SELECT set_config('role', regexp_replace(session_user, '[a-z]+$', 'query'), false)"
            )
        try:
            async with ENTRIES[entry](shared) as cursor:
                assert cursor.connection.info.backend_pid == session
                await cursor.execute("SELECT current_user = session_user AS clean")
                assert await cursor.fetchone() == {"clean": True}
        except DependencyUnavailable:
            pytest.fail("the role was kept, and the session had to be dropped")
        proof_cases.add()


@pytest.fixture
def generous(provisioned: Provisioned, postgres: EmbeddedPostgres) -> Iterator[None]:
    """As after a bootstrap that could not take these privileges away."""
    dbname = provisioned.bootstrapped.dbname
    names = {
        "database": sql.Identifier(dbname),
        "roles": sql.SQL(", ").join(
            sql.Identifier(provisioned.bootstrapped.role(kind)) for kind in ("app", "system")
        ),
        "system": sql.Identifier(provisioned.bootstrapped.role("system")),
        "query": sql.Identifier(provisioned.bootstrapped.role("query")),
    }
    with psycopg.connect(postgres.admin_dsn(dbname), autocommit=True) as administrator:
        for statement in _GIVE:
            administrator.execute(sql.SQL(statement).format(**names))
        yield
        for statement in _TAKE:
            administrator.execute(sql.SQL(statement).format(**names))


_GIVE: Final[tuple[LiteralString, ...]] = (
    "GRANT {query} TO {system} WITH SET TRUE",
    "GRANT USAGE ON LANGUAGE plpgsql TO {roles}",
    "GRANT TEMPORARY ON DATABASE {database} TO {roles}",
    "CREATE SEQUENCE public.litters",
    "GRANT USAGE ON SCHEMA public TO {roles}",
    "GRANT USAGE ON SEQUENCE public.litters TO {roles}",
)
_TAKE: Final[tuple[LiteralString, ...]] = (
    "REVOKE {query} FROM {system}",
    "REVOKE USAGE ON LANGUAGE plpgsql FROM {roles}",
    "REVOKE TEMPORARY ON DATABASE {database} FROM {roles}",
    "DROP SEQUENCE public.litters",
    "REVOKE USAGE ON SCHEMA public FROM {roles}",
)


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16")
@pytest.mark.parametrize("entry", ENTRIES)
async def test_where_more_may_be_left_the_next_user_has_nothing_of_it(
    shared: Database, generous: None, entry: str, proof_cases: ProofCases
) -> None:
    enter = ENTRIES[entry]
    for what, (leave, look) in GRANTED.items():
        async with enter(shared) as cursor:
            session = cursor.connection.info.backend_pid
            await cursor.execute(sql.SQL(leave))
        async with enter(shared) as cursor:
            assert cursor.connection.info.backend_pid == session, "this proves nothing"
            with pytest.raises(psycopg.Error) as missing:
                await cursor.execute(sql.SQL(look))
        assert missing.value.sqlstate in NOT_THERE, what
        proof_cases.add()
