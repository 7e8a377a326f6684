"""The append functions: a bad row fails alone, and the epoch fences what was admitted before."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tenantplane.core.errors import InvalidInput
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
    intent_parameters,
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


@pytest.mark.parametrize(
    "poison",
    [{"call_no": -1}, {"call_no": 2**70}, {"resource": "\0"}, {"resource": "\ud800"}],
    ids=["out of bounds", "beyond 64 bits", "a null", "half a character"],
)
async def test_a_row_that_the_table_refuses_fails_alone(
    ledger: Ledger, new_org: str, poison: dict[str, Any]
) -> None:
    good, poisoned = await an_intent(ledger, new_org), await an_intent(ledger, new_org, **poison)
    results = await asyncio.gather(
        ledger.meter.journal.intend(good),
        ledger.meter.journal.intend(poisoned),
        return_exceptions=True,
    )
    assert results[0] is IntentStatus.OK
    assert isinstance(results[1], InvalidInput)


@pytest.mark.fault("F15")
async def test_a_forged_proof_fails_alone(ledger: Ledger, new_org: str) -> None:
    other = f"{new_org}-2"
    rows = [await an_intent(ledger, new_org), await an_intent(ledger, other)]
    proof = ledger.database.proof_for(new_org)  # the second row claims another org with it
    async with app_connection(ledger) as connection:
        statuses = await append_proven(connection, rows, {new_org: proof, other: proof})
        await connection.commit()
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


async def test_each_outcome_of_a_batch_is_answered_for_itself(ledger: Ledger, new_org: str) -> None:
    intents = [await an_intent(ledger, new_org) for _ in range(4)]
    await intend(ledger, *intents[:3])
    done, fresh, again = (an_outcome(intent, 300) for intent in intents[:3])
    assert (await conclude(ledger, done), await conclude(ledger, again)) == ("ok", "ok")
    other = an_outcome(intents[0], 9)
    batch = [other, fresh, an_outcome(intents[3], 5), again]

    answers = await asyncio.gather(*(ledger.meter.journal.conclude(row) for row in batch))

    assert [answer.status for answer in answers] == ["final", "ok", "unknown", "duplicate"]
    assert [(a.event_id, a.record_id, a.cost_nanousd) for a in answers] == [
        (row.event_id, row.record_id, row.cost_nanousd) for row in (done, *batch[1:])
    ]


async def test_two_outcomes_of_one_call_in_a_batch_are_committed_one_after_the_other(
    ledger: Ledger, new_org: str
) -> None:
    intents = [await an_intent(ledger, new_org) for _ in range(2)]
    await intend(ledger, *intents)
    batch = [
        an_outcome(intents[0], 1000, stage="estimated"),
        an_outcome(intents[0], 300),
        an_outcome(intents[1], 20),
    ]
    answers = await asyncio.gather(*(ledger.meter.journal.conclude(row) for row in batch))
    assert [answer.status for answer in answers] == ["ok"] * 3
    rows = await ledger.query(
        "SELECT sum(delta_nanousd)::bigint AS nanousd FROM dataplane.outcome"
        " WHERE org_id = %(org)s",
        org=new_org,
    )
    assert rows == [{"nanousd": 320}]


async def test_repeated_intents_of_a_batch_are_one_and_the_largest(
    ledger: Ledger, new_org: str
) -> None:
    row = await an_intent(ledger, new_org)
    batch = [replace(row, hold_nanousd=NanoUSD(hold)) for hold in (1000, 5000, 200)]
    another = await an_intent(ledger, new_org)
    assert await intend(ledger, *batch, another) == [IntentStatus.OK] * 4
    assert await ledger.open_holds_in_postgres(new_org) == 6000


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
            await append(connection, [row])


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


async def append(connection: Any, rows: list[IntentRow]) -> list[str]:
    proofs = {row.org_id: connection.proof_for(row.org_id) for row in rows}
    return await append_proven(connection, rows, proofs)


async def append_proven(
    connection: Any, rows: list[IntentRow], proofs: Mapping[str, str]
) -> list[str]:
    cursor = await connection.execute(statement("append_intents"), intent_parameters(rows, proofs))
    statuses: list[str] = (await cursor.fetchone())["statuses"]
    return statuses


async def until_somebody_waits(ledger: Ledger) -> None:
    async with asyncio.timeout(10):
        while not await ledger.query("SELECT 1 FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
