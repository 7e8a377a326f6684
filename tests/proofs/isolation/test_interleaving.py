"""An umbrella, its child and a stranger on two connections, in any order, with SQL of a model, system
jobs and faults in between: no foreign row, ever, and a parent is no exception."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.db.query import QueryLimits, run_query
from tenantplane.core.errors import DependencyUnavailable, Unprocessable
from tenantplane.core.ids import new_id
from tests.fixtures.isolation import PlaneDatabase
from tests.fixtures.ledger import MIGRATIONS
from tests.fixtures.postgres import ProvisionDatabase
from tests.fixtures.proofs import ProofCases

pytestmark = pytest.mark.proof

ROOT, CHILD, STRANGER = "umbrella", "umbrella-child", "stranger"
TENANTS: Final = (ROOT, CHILD, STRANGER)
LOOK: Final = system_job("tests.interleaving", "reads the calls of all tenants, between theirs")

# Calls of each, in one tree or another; nothing of a test changes them.
_CALLS: Final[LiteralString] = """
INSERT INTO dataplane.intent (org_id, intent_id, root_org_id, run_id, call_no, user_id, kind,
  resource, hold_nanousd, price_book_version, epoch, slots, request_ciphertext, deadline_at)
SELECT %(org)s, gen_random_uuid(), %(root)s, gen_random_uuid(), 0, 'u', 'model', 'm', 1000, 1, 1,
       '[]', '-', now() FROM generate_series(1, 3)
"""
_WHOSE: Final[LiteralString] = "SELECT DISTINCT org_id FROM dataplane.intent"
# In the list of columns it is counted as it comes; among the tables it would fill the disk first.
_SLOW: Final[LiteralString] = (
    "SELECT count(*) FROM (SELECT generate_series(1, 1000000000)) AS numbers"
)
_HASTY: Final = QueryLimits(seconds=0.02, cost=1e9)
_PATIENT: Final = QueryLimits(seconds=30.0, cost=1e9)


@dataclass
class Ledger:
    """What each tenant must have in the end, told by what committed."""

    database: Database
    kept: dict[str, set[str]] = field(default_factory=lambda: {t: set() for t in TENANTS})


async def _write(cursor: TenantCursor, body: str) -> None:
    await cursor.execute(
        "INSERT INTO dataplane.note (org_id, user_id, note_id, thread_id, body)"
        " VALUES (%s, 'u', %s, %s, %s)",
        (cursor.org_id, new_id(), f"{cursor.org_id}::t", body),
    )


async def _look(cursor: TenantCursor) -> set[str]:
    """With the scope forgotten: what stands between the tenants is the database alone."""
    await cursor.execute("SELECT org_id, body FROM dataplane.note")
    rows = await cursor.fetchall()
    assert {row["org_id"] for row in rows} <= {cursor.org_id}
    return {row["body"] for row in rows}


async def _read(ledger: Ledger, tenant: str, body: str) -> None:
    async with ledger.database.tenant_tx(tenant) as cursor:
        before = set(ledger.kept[tenant])
        assert before <= await _look(cursor)


async def _read_tree(ledger: Ledger, tenant: str, body: str) -> None:
    """By the root that parent and child have in common: each still finds its own alone."""
    async with ledger.database.tenant_tx(tenant) as cursor:
        await cursor.execute(_WHOSE)
        assert await cursor.fetchall() == [{"org_id": tenant}]
        await cursor.execute(_WHOSE + " WHERE root_org_id = %s", (ROOT,))
        whose = {row["org_id"] for row in await cursor.fetchall()}
        assert whose == {tenant} - {STRANGER}


async def _query(ledger: Ledger, tenant: str, body: str) -> None:
    """SQL of a model, of which no parser has seen anything: as the role query, without a filter."""
    answer = await run_query(ledger.database, tenant, {}, _WHOSE, _PATIENT)
    assert answer.rows == (f'{{"org_id":"{tenant}"}}',)


async def _refused_query(ledger: Ledger, tenant: str, body: str) -> None:
    for text in ("SELECT 1 / 0", "SELECT body FROM dataplane.note", "RESET ROLE"):
        with pytest.raises(Unprocessable):
            await run_query(ledger.database, tenant, {}, text, _PATIENT)


async def _late_query(ledger: Ledger, tenant: str, body: str) -> None:
    with pytest.raises(Unprocessable) as refused:
        await run_query(ledger.database, tenant, {}, _SLOW, _HASTY)
    assert refused.value.error_code == "sql_timeout"


async def _cancelled_query(ledger: Ledger, tenant: str, body: str) -> None:
    """The caller gives up: some before they have a connection, some while the server works."""
    task = asyncio.create_task(run_query(ledger.database, tenant, {}, _SLOW, _PATIENT))
    await asyncio.wait([task], timeout=int(body.partition(" ")[0]) / 1000)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _job(ledger: Ledger, tenant: str, body: str) -> None:
    """Sees what its policies show of all tenants, and of theirs alone nothing."""
    async with ledger.database.system_tx(LOOK) as cursor:
        await cursor.execute(_WHOSE)
        assert {row["org_id"] for row in await cursor.fetchall()} == set(TENANTS)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with ledger.database.system_tx(LOOK) as cursor:
            await cursor.execute("SELECT 1 FROM dataplane.note")


async def _broken_job(ledger: Ledger, tenant: str, body: str) -> None:
    with suppress(psycopg.errors.DivisionByZero):
        async with ledger.database.system_tx(LOOK) as cursor:
            await cursor.execute("SELECT set_config('app.current_tenant', %s, false)", (tenant,))
            await cursor.execute("SELECT 1 / 0")


async def _insert(ledger: Ledger, tenant: str, body: str) -> None:
    async with ledger.database.tenant_tx(tenant) as cursor:
        await _write(cursor, body)
        await _look(cursor)
    ledger.kept[tenant].add(body)


async def _raise(ledger: Ledger, tenant: str, body: str) -> None:
    with suppress(ZeroDivisionError):
        async with ledger.database.tenant_tx(tenant) as cursor:
            await _write(cursor, body)
            raise ZeroDivisionError


async def _break(ledger: Ledger, tenant: str, body: str) -> None:
    """An error of the server in mid-transaction."""
    with suppress(psycopg.errors.DivisionByZero):
        async with ledger.database.tenant_tx(tenant) as cursor:
            await _write(cursor, body)
            await cursor.execute("SELECT 1 / 0")


async def _cancel(ledger: Ledger, tenant: str, body: str) -> None:
    """The caller gives up while the server works."""
    at_work = asyncio.Event()

    async def work() -> None:
        async with ledger.database.tenant_tx(tenant) as cursor:
            await _write(cursor, body)
            at_work.set()
            await cursor.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await at_work.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _time_out(ledger: Ledger, tenant: str, body: str) -> None:
    with suppress(DependencyUnavailable):  # what the pool makes of a statement that took too long
        async with ledger.database.tenant_tx(tenant) as cursor:
            await cursor.execute("SET LOCAL statement_timeout = '5ms'")
            await _write(cursor, body)
            await cursor.execute("SELECT pg_sleep(30)")


async def _litter(ledger: Ledger, tenant: str, body: str) -> None:
    """Injected SQL that leaves another tenant, with a good proof, in the session."""
    other = TENANTS[(TENANTS.index(tenant) + 1) % len(TENANTS)]
    async with ledger.database.tenant_tx(tenant) as cursor:
        for name, value in (
            ("app.current_tenant", other),
            ("app.tenant_proof", ledger.database.proof_for(other)),
            ("search_path", "pg_temp"),
        ):
            await cursor.execute("SELECT set_config(%s, %s, false)", (name, value))


async def _unscoped(ledger: Ledger, tenant: str, body: str) -> None:
    async with ledger.database.unscoped_tx() as cursor:
        for look in ("SELECT 1 FROM dataplane.note", "SELECT 1 FROM dataplane.intent"):
            await cursor.execute(look)
            assert await cursor.fetchall() == []


STEPS: Final[dict[str, Callable[[Ledger, str, str], Awaitable[None]]]] = {
    "read": _read,
    "insert": _insert,
    "raise": _raise,
    "break": _break,
    "cancel": _cancel,
    "time out": _time_out,
    "litter": _litter,
    "unscoped": _unscoped,
    "tree": _read_tree,
    "query": _query,
    "refused query": _refused_query,
    "late query": _late_query,
    "cancelled query": _cancelled_query,
    "job": _job,
    "broken job": _broken_job,
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_pool(
    provision_database: ProvisionDatabase, postgres: EmbeddedPostgres
) -> AsyncIterator[PlaneDatabase]:
    """A data plane's database with two connections for everybody."""
    provisioned = await provision_database("data", Path(MIGRATIONS))
    pool = Database(
        provisioned.settings.model_copy(update={"pool_max": 2, "pool_wait_seconds": 30.0}),
        name="data",
    )
    owner = await psycopg.AsyncConnection[dict[str, Any]].connect(
        provisioned.owner_dsn, autocommit=True, row_factory=psycopg.rows.dict_row
    )
    admin_dsn = postgres.admin_dsn(provisioned.bootstrapped.dbname)
    try:
        await pool.open()
        for org, root in ((ROOT, ROOT), (CHILD, ROOT), (STRANGER, STRANGER)):
            await owner.execute(_CALLS, {"org": org, "root": root})
        yield PlaneDatabase("data", provisioned, pool, owner, admin_dsn)
    finally:
        await pool.close()
        await owner.close()


@pytest.mark.req("R1", "R2", "R6")
@pytest.mark.fault("F16")
@settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.sampled_from(TENANTS)), min_size=4, max_size=16
    )
)
async def test_no_interleaving_shows_a_foreign_row(
    small_pool: PlaneDatabase, proof_cases: ProofCases, steps: list[tuple[str, str]]
) -> None:
    ledger = Ledger(small_pool.pool)
    await small_pool.look("DELETE FROM dataplane.note RETURNING 1")

    # All at once: who gets which connection after whom is the pool's choice.
    await asyncio.gather(
        *(
            STEPS[step](ledger, tenant, f"{number} of {tenant}")
            for number, (step, tenant) in enumerate(steps)
        )
    )

    rows = await small_pool.look("SELECT org_id, body FROM dataplane.note")
    found = {t: {row["body"] for row in rows if row["org_id"] == t} for t in TENANTS}
    assert found == ledger.kept
    for tenant in TENANTS:
        async with small_pool.pool.tenant_tx(tenant) as cursor:
            assert await _look(cursor) == ledger.kept[tenant]
    async with small_pool.pool.unscoped_tx() as cursor:
        await cursor.execute("SELECT 1 FROM dataplane.note")
        assert await cursor.fetchall() == []
    proof_cases.add(len(steps))
