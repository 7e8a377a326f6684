"""`ledger check` says each difference between the books, and `--repair` ends what it can."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.money import NanoUSD, parse_usd
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.check import Book, Difference, check
from tenantplane.dataplane.ledger.provider_report import read_report
from tenantplane.dataplane.ledger.repair import repair
from tenantplane.dataplane.ledger.rolling import Roller
from tenantplane.dataplane.ledger.shipper import Shipper
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant
from tests.integration.dataplane.ledger.test_restored import ControlPlane


async def found(ledger: Ledger, snapshot: Snapshot, **given: Any) -> list[tuple[str, int, int]]:
    differences = await check(ledger.meter, snapshot, **({"control": None, "report": None} | given))
    return [(str(d.book), d.ledger_nanousd, d.other_nanousd) for d in differences]


async def spend(ledger: Ledger, org: str, cost: int, **usage: Any) -> Any:
    call = await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(1000))
    await call.complete(Usage(2, 3, NanoUSD(cost), **usage), None)
    return call.intent_id


async def as_owner(ledger: Ledger, sql: str, **parameters: Any) -> None:
    async with await psycopg.AsyncConnection.connect(ledger.provisioned.owner_dsn) as owner:
        changed = await owner.execute(sql, parameters)
        assert changed.rowcount > 0


@pytest.mark.req("R34")
async def test_books_that_agree_agree_while_calls_run(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    await spend(ledger, new_org, 10)
    await Roller(ledger.database).roll()
    await spend(ledger, new_org, 20)
    running = await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call(500))
    assert await found(ledger, a_snapshot(new_org), control=control) == []
    await Shipper(ledger.database, control).ship()
    assert await found(ledger, a_snapshot(new_org), control=control) == []
    await running.complete(Usage(1, 1, NanoUSD(5)), None)
    assert await found(ledger, a_snapshot(new_org), control=control) == []


@pytest.mark.req("R34")
async def test_a_valkey_that_forgot_money_is_told_and_rebuilt(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    await spend(ledger, new_org, 700)
    await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call(300))
    redis = ledger.store._redis
    (money,) = await redis.keys(f"tp:{{{new_org}}}:money:*")
    for name in await redis.hkeys(money):
        if str(name).startswith(("b'settled:", "b'held:")):
            await redis.hset(money, name, 1)
    snapshot = a_snapshot(new_org)
    assert sorted(await found(ledger, snapshot)) == sorted(
        [("valkey, held", 300, 1), ("valkey, settled", 700, 1)] * 2  # day and month
    )
    await repair(ledger.meter, snapshot, await differences(ledger, snapshot), None)
    assert await found(ledger, snapshot) == []
    assert await ledger.in_valkey(snapshot) == (700, 300)


async def differences(ledger: Ledger, snapshot: Snapshot) -> list[Difference]:
    return await check(ledger.meter, snapshot, control=None, report=None)


async def test_a_wrong_roll_is_told_and_made_anew(make_ledger: MakeLedger, new_org: str) -> None:
    ledger, snapshot = await make_ledger(), a_snapshot(new_org)
    await spend(ledger, new_org, 700)
    await Roller(ledger.database).roll()
    await as_owner(ledger, "UPDATE dataplane.spend_roll SET nanousd = 5 WHERE period = 'month'")
    assert ("rolls", 700, 5) in await found(ledger, snapshot)
    await repair(ledger.meter, snapshot, await differences(ledger, snapshot), None)
    assert await found(ledger, snapshot) == []
    assert await ledger.in_valkey(snapshot) == (700, 0)


async def test_a_call_without_an_outcome_is_told_and_estimated(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, snapshot = await make_ledger(), a_snapshot(new_org)
    await ledger.meter.open(a_tenant(new_org), snapshot, a_call(300))
    assert await found(ledger, snapshot) == []  # it may still be answered
    await as_owner(ledger, "UPDATE dataplane.intent SET deadline_at = now() - interval '1 hour'")
    assert await found(ledger, snapshot) == [("calls without an outcome", 300, 0)]
    await repair(ledger.meter, snapshot, await differences(ledger, snapshot), None)
    assert await found(ledger, snapshot) == []
    assert await ledger.in_valkey(snapshot) == (300, 0)


async def test_what_the_control_plane_lacks_or_has_too_much_is_told(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, control, snapshot = await make_ledger(), ControlPlane(), a_snapshot(new_org)
    await spend(ledger, new_org, 700)
    await Shipper(ledger.database, control).ship()
    (event_id,) = control.events
    event = control.events.pop(event_id)
    assert await found(ledger, snapshot, control=control) == [("control plane", 700, 0)]
    control.events[event_id] = event.model_copy(update={"delta_nanousd": 800})
    assert await found(ledger, snapshot, control=control) == [("control plane", 700, 800)]


async def test_a_providers_word_corrects_estimates_and_no_more(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, snapshot = await make_ledger(), a_snapshot(new_org)
    estimated = await spend(ledger, new_org, 1000, estimated=True)
    actual = await spend(ledger, new_org, 400)
    agreed = await spend(ledger, new_org, 50)
    unknown = "00000000-0000-7000-8000-000000000000"
    report = read_report(
        [
            "call_id,cost_usd,input_tokens",
            f"{estimated},0.0000003,7",
            f"{actual},0.0000005,7",
            f"{agreed},0.00000005,7",
            f"{unknown},0.000000001,7",
        ]
    )
    told = [("provider", 0, 1), ("provider", 400, 500), ("provider, estimated call", 1000, 300)]
    assert sorted(await found(ledger, snapshot, report=report)) == told
    found_now = await check(ledger.meter, snapshot, control=None, report=report)
    await repair(ledger.meter, snapshot, found_now, report)
    assert sorted(await found(ledger, snapshot, report=report)) == told[:2]
    assert await ledger.in_valkey(snapshot) == (750, 0)
    assert await ledger.settled_in_postgres(new_org) == 750


async def test_totals_by_day_and_model_are_compared(make_ledger: MakeLedger, new_org: str) -> None:
    ledger, snapshot = await make_ledger(), a_snapshot(new_org)
    for cost in (100, 200):
        await spend(ledger, new_org, cost)
    today = ledger.database.clock.now().date()
    lines = ["day,model,cost_usd", f"{today},assistant-1,0.0000003"]
    assert await found(ledger, snapshot, report=read_report(lines)) == []
    other = [*lines, f"{today},assistant-1,0.0000001", f"{today - timedelta(days=1)},other,1"]
    assert await found(ledger, snapshot, report=read_report(other)) == [
        (Book.PROVIDER, 0, parse_usd("1")),
        (Book.PROVIDER, 300, 400),
    ]
