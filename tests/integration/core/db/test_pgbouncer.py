"""Behind PgBouncer in transaction mode each transaction may meet another session of the server, in
whatever state another client left it."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.db.settings import DatabaseSettings
from tenantplane.core.errors import DependencyUnavailable
from tests.fixtures.pgbouncer import PgBouncer, StartPgBouncer
from tests.fixtures.postgres import ProvisionDatabase

TOY_PLANE = Path(__file__).parent / "toy_plane"
TENANTS = [f"org-{number}" for number in range(100)]
THREADS = 4
TASKS = 25  # in each thread: 100 clients, on three sessions
STEPS = 12  # of each task


@dataclass
class Tally:
    """What one thread saw."""

    served: int = 0
    cancelled: int = 0
    unavailable: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    kept: dict[str, set[str]] = field(default_factory=dict)


@pytest.fixture
async def pgbouncer(
    provision_database: ProvisionDatabase, start_pgbouncer: StartPgBouncer
) -> PgBouncer:
    return start_pgbouncer(await provision_database("data", TOY_PLANE))


async def write(cursor: TenantCursor, body: str) -> None:
    await cursor.execute(
        "INSERT INTO note (org_id, body) VALUES (%(org_id)s, %(body)s)",
        {"org_id": cursor.org_id, "body": body},
    )


async def look(cursor: TenantCursor, tally: Tally) -> set[str]:
    """With the scope forgotten; what is foreign is noted."""
    found = await cursor.execute("SELECT tp.current_org() AS org, org_id, body FROM note")
    rows = await found.fetchall()
    tally.foreign += [r["body"] for r in rows if {r["org"], r["org_id"]} != {cursor.org_id}]
    return {row["body"] for row in rows}


async def step(database: Database, tally: Tally, chance: random.Random, body: str) -> None:
    """One transaction of one tenant: it commits, breaks off, or is cancelled wherever it is."""
    org = chance.choice(TENANTS)
    body = f"{org} {body}"
    fate = chance.choice(["commit", "commit", "raise", "cancel", "cancel"])
    try:
        async with asyncio.timeout(chance.random() * 0.05 if fate == "cancel" else None):
            async with database.tenant_tx(org) as cursor:
                before = set(tally.kept.get(org, ()))
                await write(cursor, body)
                seen = await look(cursor, tally)
                tally.lost += sorted((before | {body}) - seen)
                if fate == "raise":
                    raise ZeroDivisionError
                if fate == "cancel":
                    await cursor.execute("SELECT pg_sleep(30)")
        tally.kept.setdefault(org, set()).add(body)
        tally.served += 1
    except ZeroDivisionError:
        tally.served += 1
    except TimeoutError:
        tally.cancelled += 1
    except DependencyUnavailable as away:
        tally.unavailable.append(type(away.__cause__).__name__)


def thread(settings: DatabaseSettings, number: int) -> Tally:
    """A replica of its own: event loop, pool, tenants in an order of its own."""
    tally = Tally()

    async def client(database: Database, which: int) -> None:
        chance = random.Random(number * TASKS + which)
        for count in range(STEPS):
            await step(database, tally, chance, f"{number}-{which}-{count}")

    async def work() -> None:
        database = Database(settings, name=f"replica-{number}")
        await database.open()
        try:
            async with asyncio.TaskGroup() as tasks:
                for which in range(TASKS):
                    tasks.create_task(client(database, which))
        finally:
            await database.close()

    asyncio.run(work())
    return tally


@pytest.mark.req("R2")
@pytest.mark.fault("F16", "F17")
@pytest.mark.parametrize("prepared", [False, True], ids=["unprepared", "prepared"])
async def test_a_hundred_tenants_interleaved_on_three_sessions_see_no_foreign_row(
    pgbouncer: PgBouncer, prepared: bool
) -> None:
    settings = pgbouncer.settings(
        pool_max=TASKS, pool_wait_seconds=60.0, prepared_statements=prepared
    )
    tallies = await asyncio.gather(
        *(asyncio.to_thread(thread, settings, number) for number in range(THREADS))
    )
    assert [body for tally in tallies for body in tally.foreign] == []
    assert sum(tally.cancelled for tally in tallies) > 0
    assert sum(tally.served for tally in tallies) > 0
    if prepared and not pgbouncer.knows_prepared_statements:
        return  # what the docs say: older ones need prepared_statements off to be of use
    assert [body for tally in tallies for body in tally.lost] == []
    # A cancel names a session, and the pooler may have given that to another client by the time it
    # arrives: that one is told to try again. Nothing else breaks.
    strays = [cause for tally in tallies for cause in tally.unavailable]
    assert set(strays) <= {"QueryCanceled"}
    assert len(strays) <= sum(tally.cancelled for tally in tallies) / 20
    direct = Database(pgbouncer.provisioned.settings, name="direct")
    await direct.open()
    try:
        for org in TENANTS:
            kept = {b for tally in tallies for b in tally.kept.get(org, ())}
            async with direct.tenant_tx(org) as cursor:
                assert kept <= await look(cursor, Tally())
    finally:
        await direct.close()


LEFT_BEHIND = {
    "tenant": "SET app.current_tenant = 'org-1'",
    "search_path": "SET search_path = evil",
    "role": "SET ROLE {query}",
    "row_security": "SET row_security = off",
    "read-only default": "SET default_transaction_read_only = on",
    "statement_timeout": "SET statement_timeout = '100ms'",
    "held cursor": "DECLARE held CURSOR WITH HOLD FOR SELECT body FROM note",
}


@pytest.mark.req("R2")
@pytest.mark.fault("F14", "F16", "F17")
@pytest.mark.parametrize("kind", LEFT_BEHIND)
async def test_what_one_client_leaves_in_the_shared_session_does_not_reach_another(
    provision_database: ProvisionDatabase, start_pgbouncer: StartPgBouncer, kind: str
) -> None:
    pgbouncer = start_pgbouncer(await provision_database("data", TOY_PLANE), sessions=1)
    leave = LEFT_BEHIND[kind].format(query=pgbouncer.provisioned.bootstrapped.role("query"))
    one, other = (Database(pgbouncer.settings(), name=name) for name in ("one", "other"))
    try:
        await one.open()
        await other.open()
        async with one.tenant_tx("org-1") as cursor:
            await write(cursor, "of org-1")
            await cursor.execute("SELECT pg_backend_pid() AS pid")
            left = await cursor.fetchone()
            await cursor.execute(leave.encode())
        async with other.tenant_tx("org-2") as cursor:
            found = await cursor.execute(
                "SELECT current_user = session_user AS itself, tp.current_org() AS org,"
                " current_setting('search_path') AS path,"
                " current_setting('row_security') AS row_security,"
                " current_setting('statement_timeout') AS timeout,"
                " (SELECT count(*) FROM pg_cursors WHERE name = 'held') AS held"
            )
            assert await found.fetchone() == {
                "itself": True,
                "org": "org-2",
                "path": "public, pg_temp",
                "row_security": "on",
                "timeout": "30s",
                "held": 0,
            }
            assert await look(cursor, Tally()) == set()
            await write(cursor, "of org-2")
            await cursor.execute("SELECT pg_backend_pid() AS pid")
            assert await cursor.fetchone() == left, "another session: this proves nothing"
    finally:
        await one.close()
        await other.close()


@pytest.mark.fault("F17")
async def test_listening_goes_past_the_pooler(pgbouncer: PgBouncer) -> None:
    database = Database(pgbouncer.settings(), name="data")
    await database.open()
    try:
        async with asyncio.timeout(30), aclosing(database.listen("wake")) as heard:
            assert await anext(heard) == ""
            async with database.tenant_tx("org-1") as cursor:
                await cursor.execute("SELECT pg_notify('wake', 'one')")
            assert await anext(heard) == "one"
    finally:
        await database.close()
