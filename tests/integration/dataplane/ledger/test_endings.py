"""How calls end when something goes wrong: failures, cancellation, death of the process."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tenantplane.core.audit.record import SealedRecord, open_sealed
from tenantplane.core.errors import Conflict, Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import NOTHING_USED, Usage
from tenantplane.dataplane.ledger.rows import IntentRow, IntentStatus
from tenantplane.dataplane.ledger.sweeper import Swept
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant

LATER = timedelta(minutes=10)


async def outcomes(ledger: Ledger, org: str) -> list[tuple[str, int]]:
    rows = await ledger.query(
        "SELECT stage, cost_nanousd FROM dataplane.outcome WHERE org_id = %(org)s ORDER BY xid",
        org=org,
    )
    return [(row["stage"], row["cost_nanousd"]) for row in rows]


async def test_a_failed_call_that_cost_nothing_frees_its_hold(ledger: Ledger, new_org: str) -> None:
    snapshot = a_snapshot(new_org)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))
    await call.fail("provider refused the connection", NOTHING_USED)
    assert await ledger.in_valkey(snapshot) == (0, 0)
    assert await outcomes(ledger, new_org) == [("actual", 0)]


async def test_an_abandoned_call_counts_its_hold_until_it_is_corrected(
    ledger: Ledger, new_org: str
) -> None:
    snapshot = a_snapshot(new_org)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))
    await call.abandon()
    assert await ledger.in_valkey(snapshot) == (500, 0)
    await call.complete(Usage(1, 1, NanoUSD(120)), None)
    assert await ledger.in_valkey(snapshot) == (120, 0)
    assert await outcomes(ledger, new_org) == [("estimated", 500), ("actual", 120)]


async def test_a_call_that_cost_more_than_its_hold_is_recorded_and_flagged(
    ledger: Ledger, new_org: str
) -> None:
    snapshot = a_snapshot(new_org)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))
    await call.complete(Usage(1, 1, NanoUSD(700)), None)
    assert await ledger.in_valkey(snapshot) == (700, 0)
    rows = await ledger.query(
        "SELECT provider_excess FROM dataplane.outcome WHERE org_id = %(org)s", org=new_org
    )
    assert rows == [{"provider_excess": True}]


async def test_an_enlarged_hold_is_durable(ledger: Ledger, new_org: str) -> None:
    snapshot = a_snapshot(new_org, hard_cap_nanousd=1000)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(100))
    await call.enlarge(NanoUSD(900))
    assert await ledger.in_valkey(snapshot) == (0, 900)
    assert await ledger.open_holds_in_postgres(new_org) == 900
    await call.complete(Usage(1, 1, NanoUSD(850)), None)
    assert await ledger.in_valkey(snapshot) == (850, 0)


async def test_a_call_number_is_used_once(ledger: Ledger, new_org: str) -> None:
    snapshot, run = a_snapshot(new_org), new_id()
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(100, run_id=run))
    with pytest.raises(Conflict, match="was made already"):
        await ledger.meter.open(a_tenant(new_org), snapshot, a_call(100, run_id=run))
    await call.complete(Usage(1, 1, NanoUSD(10)), None)
    await until(ledger, a_snapshot(new_org), (10, 0))


async def test_later_calls_of_a_run_are_no_new_requests(ledger: Ledger, new_org: str) -> None:
    snapshot, run = a_snapshot(new_org, requests_per_minute=1), new_id()
    for call_no in range(3):
        wanted = a_call(1, run_id=run, call_no=call_no, count_request=call_no == 0)
        call = await ledger.meter.open(a_tenant(new_org), snapshot, wanted)
        await call.complete(Usage(1, 1, NanoUSD(1)), None)


# Turns of the loop until the cancellation: on the way to Postgres, in its commit, on the way to
# Valkey. (One after which nothing is left to cancel proves nothing, and does no harm.)
STEPS = [1, 2, 3, 4, 6, 8, 10, 14, 20, 30]


@pytest.mark.parametrize("steps", STEPS)
async def test_closing_goes_on_when_its_caller_is_cancelled(
    ledger: Ledger, new_org: str, steps: int
) -> None:
    snapshot = a_snapshot(new_org)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))
    closing = asyncio.create_task(call.complete(Usage(1, 1, NanoUSD(40)), None))
    for _ in range(steps):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await until(ledger, snapshot, (40, 0))
    assert await outcomes(ledger, new_org) == [("actual", 40)]


@pytest.mark.parametrize("steps", STEPS)
async def test_a_caller_cancelled_while_opening_pays_nothing(
    ledger: Ledger, new_org: str, steps: int
) -> None:
    snapshot = a_snapshot(new_org)
    await ledger.meter.keys.of(new_org)
    opening = asyncio.create_task(ledger.meter.open(a_tenant(new_org), snapshot, a_call(500)))
    for _ in range(steps):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    if not opening.cancelled():  # it was through already: then it is a call like any other
        await opening.result().fail("not made", NOTHING_USED)
    await ledger.meter.background.finish(10)
    assert await ledger.in_valkey(snapshot) == (0, 0)
    assert await ledger.open_holds_in_postgres(new_org) == 0


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_a_caller_cancelled_in_the_commit_of_its_intent_pays_nothing(
    ledger: Ledger, new_org: str, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row still waits, is on its way, or is there: nobody knows, and it ends closed."""
    snapshot, journal, intended = a_snapshot(new_org), ledger.meter.journal, asyncio.Event()
    intend = journal.intend

    def seen(row: IntentRow) -> asyncio.Future[IntentStatus]:
        intended.set()
        return intend(row)

    monkeypatch.setattr(journal, "intend", seen)
    opening = asyncio.create_task(ledger.meter.open(a_tenant(new_org), snapshot, a_call(500)))
    await intended.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    assert opening.cancel()
    await asyncio.wait([opening])
    assert opening.cancelled()
    await ledger.meter.background.finish(10)
    assert await ledger.in_valkey(snapshot) == (0, 0)
    assert await outcomes(ledger, new_org) == [("actual", 0)]
    assert await ledger.open_holds_in_postgres(new_org) == 0


async def test_the_sweeper_estimates_an_overdue_call_once(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    snapshot = a_snapshot(new_org)
    call = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))
    sweepers = [ledger.sweeper(new_org, later=LATER) for _ in range(2)]

    await asyncio.gather(*(sweeper.sweep() for sweeper in sweepers))

    assert await outcomes(ledger, new_org) == [("estimated", 500)]
    assert await ledger.in_valkey(snapshot) == (500, 0)
    assert await sweepers[0].sweep() == Swept()
    record = await only_record(ledger, new_org)
    assert record.status == "interrupted"
    assert record.request == {"messages": [{"role": "user", "content": "hello"}]}

    # The process was slow, not dead: what it says is the truth.
    receipt = await call.complete(Usage(3, 4, NanoUSD(77)), "late")
    assert receipt.record_id == call.receipt_id
    assert await ledger.in_valkey(snapshot) == (77, 0)
    assert await ledger.settled_in_postgres(new_org) == 77


async def test_a_sweep_leaves_calls_alone_that_are_within_their_time(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call(500))
    assert await ledger.sweeper(new_org).sweep() == Swept()


async def test_content_of_an_org_does_not_open_in_another(ledger: Ledger, new_org: str) -> None:
    call = await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call())
    await call.complete(Usage(1, 1, NanoUSD(1)), None)
    rows = await ledger.query(
        "SELECT record_id, ciphertext, entry FROM dataplane.audit_record WHERE org_id = %(org)s",
        org=new_org,
    )
    other = f"{new_org}-2"
    with pytest.raises(Forbidden):
        open_sealed(other, SealedRecord(**rows[0]), await ledger.meter.keys.of(other))


async def only_record(ledger: Ledger, org: str) -> Any:
    rows = await ledger.query(
        "SELECT record_id, ciphertext, entry FROM dataplane.audit_record WHERE org_id = %(org)s",
        org=org,
    )
    assert len(rows) == 1
    return open_sealed(org, SealedRecord(**rows[0]), await ledger.meter.keys.of(org))


async def until(ledger: Ledger, snapshot: Any, wanted: tuple[int, int]) -> None:
    """What was left to go on in the background ends soon."""
    async with asyncio.timeout(10):
        while (  # noqa: ASYNC110
            await ledger.in_valkey(snapshot) != wanted
            or await ledger.open_holds_in_postgres(snapshot.org_id) > 0
        ):
            await asyncio.sleep(0.01)
