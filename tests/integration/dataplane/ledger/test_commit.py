"""Group commit, when its connection dies under it."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tenantplane.core.db.embedded import EmbeddedPostgres
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger import commit
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.commit import CommitUnknown
from tenantplane.dataplane.ledger.rows import IntentStatus
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant
from tests.integration.dataplane.ledger.test_append import an_intent, intend

END_APPENDERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE '%-append'
"""


async def end_append_connections(postgres: EmbeddedPostgres, ledger: Ledger) -> None:
    dsn = postgres.admin_dsn(ledger.provisioned.bootstrapped.dbname)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        await admin.execute(END_APPENDERS)


async def test_one_commit_serves_all_that_wait(ledger: Ledger, new_org: str) -> None:
    rows = [await an_intent(ledger, new_org) for _ in range(50)]
    assert set(await intend(ledger, *rows)) == {IntentStatus.OK}
    transactions = await ledger.query(
        "SELECT DISTINCT xmin FROM dataplane.intent WHERE org_id = %(org)s", org=new_org
    )
    assert len(transactions) <= 3


async def test_a_cancelled_waiter_takes_no_other_with_it(ledger: Ledger, new_org: str) -> None:
    rows = [await an_intent(ledger, new_org) for _ in range(20)]
    waiters = [asyncio.ensure_future(ledger.meter.journal.intend(row)) for row in rows]
    for waiter in waiters[::2]:
        waiter.cancel()
    assert await asyncio.gather(*waiters[1::2]) == [IntentStatus.OK] * 10


async def test_after_a_lost_connection_the_next_call_goes_through(
    make_ledger: MakeLedger, postgres: EmbeddedPostgres, new_org: str
) -> None:
    ledger = await make_ledger()
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=1000)
    await (await ledger.meter.open(tenant, snapshot, a_call(100))).complete(
        Usage(1, 1, NanoUSD(1)), None
    )
    await end_append_connections(postgres, ledger)
    with pytest.raises(DependencyUnavailable):
        await ledger.meter.open(tenant, snapshot, a_call(1000 - 1))
    # The hold of the call that was not made comes back, so the same amount fits again.
    async with asyncio.timeout(10):
        while await ledger.in_valkey(snapshot) != (1, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    call = await ledger.meter.open(tenant, snapshot, a_call(1000 - 1))
    await call.complete(Usage(1, 1, NanoUSD(2)), None)
    assert await ledger.settled_in_postgres(new_org) == 3


async def test_an_intent_whose_commit_is_unknown_is_withdrawn(
    make_ledger: MakeLedger, postgres: EmbeddedPostgres, new_org: str
) -> None:
    """It was committed, and its answer was lost: the call is not made, and costs nothing."""
    ledger = await make_ledger()
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org)
    lose_answers(ledger)
    with pytest.raises(CommitUnknown):
        await ledger.meter.open(tenant, snapshot, a_call(500))
    async with asyncio.timeout(10):
        while not await ledger.query("SELECT 1 FROM dataplane.outcome WHERE cost_nanousd = 0"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await ledger.open_holds_in_postgres(new_org) == 0
    assert await ledger.settled_in_postgres(new_org) == 0


async def test_a_commit_that_hangs_is_hung_up_on(
    make_ledger: MakeLedger, new_org: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await make_ledger()
    rows = [await an_intent(ledger, new_org) for _ in range(2)]

    async def append_after_an_hour(connection: Any, rows: Any) -> Any:
        await connection.execute("SELECT pg_sleep(3600)")

    monkeypatch.setattr(commit, "COMMIT_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(ledger.meter.journal._intents, "_append", append_after_an_hour)
    with pytest.raises(CommitUnknown):
        await ledger.meter.journal.intend(rows[0])
    monkeypatch.undo()
    assert await ledger.meter.journal.intend(rows[1]) is IntentStatus.OK


def lose_answers(ledger: Ledger) -> None:
    intents = ledger.meter.journal._intents
    append = intents._append

    async def append_and_lose(connection: Any, rows: Any) -> Any:
        await append(connection, rows)
        raise psycopg.OperationalError("the answer was lost")

    intents._append = append_and_lose
