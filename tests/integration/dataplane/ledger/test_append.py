"""The append functions: a bad row fails alone, and the epoch fences what was admitted before."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.ledger.call_ids import new_call_id
from tenantplane.dataplane.ledger.epoch import wait_for_older_transactions
from tenantplane.dataplane.ledger.installation import read_installation
from tenantplane.dataplane.ledger.rows import (
    IntentRow,
    IntentStatus,
    OutcomeRow,
    OutcomeStatus,
    slots_to_json,
)
from tenantplane.dataplane.ledger.statements import statement
from tests.fixtures.ledger import Ledger, MakeLedger

MONTH = Slot("org", "acme", "month", "2100-01", 4_102_444_800)


async def an_intent(ledger: Ledger, org: str, **changes: Any) -> IntentRow:
    now = ledger.database.clock.now()
    row = IntentRow(
        org_id=org,
        intent_id=new_call_id(ledger.database.clock.unix()),
        root_org_id=org,
        run_id=new_id(),
        call_no=0,
        thread_id=None,
        user_id="user-1",
        key_id=None,
        kind="model",
        resource="assistant-1",
        hold_nanousd=NanoUSD(1000),
        price_book_version=1,
        idempotency_key=None,
        epoch=await ledger.meter.store.refresh(),
        slots=(replace(MONTH, id=org),),
        request_ciphertext=b"-",
        commit_by=now + timedelta(seconds=15),
        deadline_at=now + timedelta(seconds=60),
    )
    return replace(row, **changes)


def an_outcome(intent: IntentRow, cost: int, **changes: Any) -> OutcomeRow:
    row = OutcomeRow(
        org_id=intent.org_id,
        intent_id=intent.intent_id,
        stage="actual",
        event_id=new_id(),
        record_id=new_id(),
        input_tokens=1,
        output_tokens=1,
        cost_nanousd=NanoUSD(cost),
        occurred_at=intent.deadline_at,
        ciphertext=b"-",
        entry=secrets.token_bytes(32),
    )
    return replace(row, **changes)


async def intend(ledger: Ledger, *rows: IntentRow) -> list[IntentStatus]:
    return list(await asyncio.gather(*(ledger.meter.journal.intend(row) for row in rows)))


async def conclude(ledger: Ledger, row: OutcomeRow) -> OutcomeStatus:
    return (await ledger.meter.journal.conclude(row)).status


async def test_each_bad_intent_of_a_batch_fails_alone(ledger: Ledger, new_org: str) -> None:
    good = await an_intent(ledger, new_org)
    old_epoch = await an_intent(ledger, new_org, epoch=good.epoch - 1)
    same_call = await an_intent(ledger, new_org, run_id=good.run_id)
    late = await an_intent(ledger, new_org, commit_by=good.commit_by - timedelta(seconds=20))
    also_good = await an_intent(ledger, new_org)

    statuses = await intend(ledger, good, old_epoch, same_call, late, also_good)

    assert statuses == [
        IntentStatus.OK,
        IntentStatus.EPOCH,
        IntentStatus.DUPLICATE,
        IntentStatus.LATE,
        IntentStatus.OK,
    ]
    assert await ledger.open_holds_in_postgres(new_org) == 2000


async def test_a_row_that_the_table_refuses_fails_alone(ledger: Ledger, new_org: str) -> None:
    good, poisoned = await an_intent(ledger, new_org), await an_intent(ledger, new_org, call_no=-1)
    results = await asyncio.gather(
        ledger.meter.journal.intend(good),
        ledger.meter.journal.intend(poisoned),
        return_exceptions=True,
    )
    assert results[0] is IntentStatus.OK
    assert isinstance(results[1], Exception)


@pytest.mark.fault("F15")
async def test_a_forged_proof_fails_alone(ledger: Ledger, new_org: str) -> None:
    other = f"{new_org}-2"
    rows = [await an_intent(ledger, new_org), await an_intent(ledger, other)]
    proof = ledger.database.proof_for(new_org)  # the second row claims another org with it
    async with app_connection(ledger) as connection:
        statuses = await append(connection, rows, proofs=[proof, proof])
    assert statuses == ["ok", "forged"]
    assert await ledger.open_holds_in_postgres(other) == 0


async def test_an_intent_sent_again_is_enlarged_never_shrunk(ledger: Ledger, new_org: str) -> None:
    row = await an_intent(ledger, new_org)
    for hold in (1000, 5000, 200):
        assert await intend(ledger, replace(row, hold_nanousd=NanoUSD(hold))) == [IntentStatus.OK]
    assert await ledger.open_holds_in_postgres(new_org) == 5000


async def test_an_actual_outcome_corrects_an_estimated_one(ledger: Ledger, new_org: str) -> None:
    intent = await an_intent(ledger, new_org)
    await intend(ledger, intent)
    actual = an_outcome(intent, 300)

    assert await conclude(ledger, an_outcome(intent, 1000, stage="estimated")) is OutcomeStatus.OK
    assert await conclude(ledger, actual) is OutcomeStatus.OK
    assert await conclude(ledger, actual) is OutcomeStatus.DUPLICATE
    assert await conclude(ledger, an_outcome(intent, 9, stage="estimated")) is OutcomeStatus.FINAL
    assert await conclude(ledger, an_outcome(intent, 9)) is OutcomeStatus.FINAL

    rows = await ledger.query(
        "SELECT stage, delta_nanousd FROM dataplane.outcome WHERE org_id = %(org)s"
        " ORDER BY stage DESC",
        org=new_org,
    )
    assert rows == [
        {"stage": "estimated", "delta_nanousd": 1000},
        {"stage": "actual", "delta_nanousd": -700},
    ]


async def test_an_outcome_without_an_intent_is_refused(ledger: Ledger, new_org: str) -> None:
    intent = await an_intent(ledger, new_org)
    assert await conclude(ledger, an_outcome(intent, 1)) is OutcomeStatus.UNKNOWN


async def test_app_cannot_write_the_ledger_but_by_the_functions(
    ledger: Ledger, new_org: str
) -> None:
    intent = await an_intent(ledger, new_org)
    await intend(ledger, intent)
    for change in (
        "UPDATE dataplane.intent SET hold_nanousd = 0",
        "DELETE FROM dataplane.outcome",
        "INSERT INTO dataplane.audit_record DEFAULT VALUES",
        "UPDATE dataplane.ledger_epoch SET epoch = epoch + 1",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            async with ledger.database.tenant_tx(new_org) as cursor:
                await cursor.execute(change)


async def test_no_intent_of_an_old_epoch_is_missed_by_a_rebuild(
    make_ledger: MakeLedger, new_org: str
) -> None:
    """The raise has an older transaction id than the commit that read the epoch before it.

    Then the snapshot's xmax is not past the commit's id, and a barrier on it would pass at once.
    """
    ledger = await make_ledger()
    row = await an_intent(ledger, new_org)
    async with owner_connection(ledger) as raiser, app_connection(ledger) as committer:
        await raiser.execute("UPDATE dataplane.ledger_epoch SET epoch = epoch + 1")
        assert await append(committer, [row]) == ["ok"]  # read the old epoch, not committed yet
        await raiser.commit()

        barrier = asyncio.create_task(wait_for_older_transactions(ledger.database))
        done, _ = await asyncio.wait([barrier], timeout=0.3)
        assert not done
        await committer.commit()
        await barrier

    read = await read_installation(ledger.database, new_org, row.epoch + 1, {})
    assert [(hold.hold_id, hold.nanousd) for hold in read.holds] == [(str(row.intent_id), 1000)]


async def test_an_intent_that_waits_for_the_epoch_reads_the_raised_one(
    make_ledger: MakeLedger, new_org: str
) -> None:
    """Stopped between taking its transaction id and reading the epoch."""
    ledger = await make_ledger()
    row = await an_intent(ledger, new_org)
    async with owner_connection(ledger) as raiser, app_connection(ledger) as committer:
        await raiser.execute("LOCK TABLE dataplane.ledger_epoch IN ACCESS EXCLUSIVE MODE")
        appending = asyncio.create_task(append(committer, [row]))
        await until_somebody_waits(ledger)
        await raiser.execute("UPDATE dataplane.ledger_epoch SET epoch = epoch + 1")
        await raiser.commit()
        assert await appending == ["epoch"]


async def test_intents_are_refused_under_an_older_snapshot(ledger: Ledger, new_org: str) -> None:
    row = await an_intent(ledger, new_org)
    async with app_connection(ledger) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        with pytest.raises(psycopg.errors.InvalidTransactionState):
            await append(connection, [row], proofs=[ledger.database.proof_for(new_org)])


def app_connection(ledger: Ledger) -> _Connection:
    return _Connection(ledger, ledger.provisioned.settings.app_dsn.get_secret_value())


def owner_connection(ledger: Ledger) -> _Connection:
    return _Connection(ledger, ledger.provisioned.owner_dsn)


class _Connection:
    """A connection in a transaction of its own, so that a test may stop it before its commit."""

    def __init__(self, ledger: Ledger, dsn: str) -> None:
        self._ledger, self._dsn = ledger, dsn

    async def __aenter__(self) -> Any:
        self._connection = await psycopg.AsyncConnection.connect(self._dsn, row_factory=dict_row)
        self._connection.proof_for = self._ledger.database.proof_for  # type: ignore[attr-defined]
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def append(
    connection: Any, rows: list[IntentRow], proofs: list[str] | None = None
) -> list[str]:
    cursor = await connection.execute(
        statement("append_intents"),
        {
            "org_ids": [r.org_id for r in rows],
            "proofs": proofs or [connection.proof_for(r.org_id) for r in rows],
            "intent_ids": [r.intent_id for r in rows],
            "root_org_ids": [r.root_org_id for r in rows],
            "run_ids": [r.run_id for r in rows],
            "call_nos": [r.call_no for r in rows],
            "thread_ids": [r.thread_id for r in rows],
            "user_ids": [r.user_id for r in rows],
            "key_ids": [r.key_id for r in rows],
            "kinds": [r.kind for r in rows],
            "resources": [r.resource for r in rows],
            "holds": [r.hold_nanousd for r in rows],
            "price_books": [r.price_book_version for r in rows],
            "idempotency_keys": [r.idempotency_key for r in rows],
            "epochs": [r.epoch for r in rows],
            "slot_lists": [slots_to_json(r.slots) for r in rows],
            "requests": [r.request_ciphertext for r in rows],
            "commit_bys": [r.commit_by for r in rows],
            "deadlines": [r.deadline_at for r in rows],
        },
    )
    statuses = [row["status"] for row in await cursor.fetchall()]
    if proofs:
        await connection.commit()
    return statuses


async def until_somebody_waits(ledger: Ledger) -> None:
    async with asyncio.timeout(10):
        while not await ledger.query("SELECT 1 FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
