"""Rolls: an install reads sums in place of calls, and misses or doubles none of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.ledger.call_ids import smallest_call_id
from tenantplane.dataplane.ledger.installation import INSTALL, read_installation
from tenantplane.dataplane.ledger.rolling import ROLL, Roller
from tenantplane.dataplane.ledger.statements import statement
from tests.fixtures.ledger import Ledger, MakeLedger
from tests.integration.dataplane.ledger.test_append import (
    MONTH,
    an_intent,
    an_outcome,
    app_connection,
    conclude,
    intend,
)


async def spend(ledger: Ledger, org: str, cost: int, **changes: Any) -> None:
    intent = await an_intent(ledger, org, **changes)
    assert await intend(ledger, intent) == ["ok"]
    assert await conclude(ledger, an_outcome(intent, cost)) == "ok"


async def settled(ledger: Ledger, root: str) -> dict[str, int]:
    """By account, as an install would begin."""
    found = await read_installation(ledger.database, root, 1, {})
    return {f"{s.slot.kind} {s.slot.id} {s.slot.period_id}": s.nanousd for s in found.settled}


async def rolled(ledger: Ledger) -> dict[tuple[str, str], int]:
    rows = await ledger.query("SELECT org_id, id, nanousd FROM dataplane.spend_roll")
    return {(row["org_id"], row["id"]): row["nanousd"] for row in rows}


@pytest.mark.req("R32", "R36")
async def test_a_childs_spend_stands_on_all_above_it_rolled_or_not(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, child = await make_ledger(), f"{new_org}-child"
    tree = {"root_org_id": new_org, "slots": (replace(MONTH, id=new_org), replace(MONTH, id=child))}
    await spend(ledger, new_org, 5)
    await spend(ledger, child, 100, **tree)
    everything = {f"org {new_org} 2100-01": 105, f"org {child} 2100-01": 100}
    assert await settled(ledger, new_org) == everything
    assert await Roller(ledger.database).roll() == 2
    assert await settled(ledger, new_org) == everything
    assert await rolled(ledger) == {
        (new_org, new_org): 5,
        (child, new_org): 100,
        (child, child): 100,
    }

    await spend(ledger, child, 7, **tree)
    everything = {f"org {new_org} 2100-01": 112, f"org {child} 2100-01": 107}
    assert await settled(ledger, new_org) == everything
    assert await Roller(ledger.database).roll() == 1
    assert await settled(ledger, new_org) == everything
    assert await Roller(ledger.database).roll() == 0


async def test_a_correction_after_the_roll_carries_the_difference(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    intent = await an_intent(ledger, new_org)
    assert await intend(ledger, intent) == ["ok"]
    assert await conclude(ledger, an_outcome(intent, 1000, stage="estimated")) == "ok"
    await Roller(ledger.database).roll()
    # An estimate stays known, so that a later report can correct it.
    found = await read_installation(ledger.database, new_org, 1, {})
    assert [(hold.nanousd, hold.estimated) for hold in found.holds] == [(1000, True)]
    assert await conclude(ledger, an_outcome(intent, 300)) == "ok"
    await Roller(ledger.database).roll()
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 300}


async def test_rollers_at_the_same_time_and_in_small_steps_count_once(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    for _ in range(30):
        await spend(ledger, new_org, 10)
    rollers = [Roller(ledger.database, batch=batch) for batch in (1, 2, 3, 7)]
    counts = await asyncio.gather(*(roller.roll() for roller in rollers))
    assert sum(counts) == 30
    assert await rolled(ledger) == {(new_org, new_org): 300}
    totals = await ledger.query("SELECT org_id, events, nanousd FROM dataplane.usage_roll")
    assert totals == [{"org_id": new_org, "events": 30, "nanousd": 300}]


async def test_a_roll_that_dies_before_its_commit_has_done_nothing(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    await spend(ledger, new_org, 10)
    async with ledger.database.system_tx(ROLL) as cursor:
        await cursor.execute(statement("lock_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(statement("roll"), {**position, "limit": 100})
        await cursor.connection.rollback()
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 10}
    assert await Roller(ledger.database).roll() == 1
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 10}


async def test_a_long_transaction_is_rolled_when_it_is_over(
    make_ledger: MakeLedger, new_org: str
) -> None:
    """Younger ones that are over wait for it: the cursor never passes what may still appear."""
    ledger = await make_ledger()
    slow, quick = await an_intent(ledger, new_org), await an_intent(ledger, new_org)
    assert await intend(ledger, slow, quick) == ["ok", "ok"]
    async with app_connection(ledger) as connection, connection.transaction():
        await connection.execute("SELECT pg_current_xact_id()")
        assert await conclude(ledger, an_outcome(quick, 1)) == "ok"
        assert await Roller(ledger.database).roll() == 0
        assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 1}
        await append_outcome(connection, ledger, an_outcome(slow, 20))
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 21}
    assert await Roller(ledger.database).roll() == 2
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 21}


async def append_outcome(connection: Any, ledger: Ledger, row: Any) -> None:
    await ledger.meter.journal._append_outcomes(connection, [row])


async def test_a_period_with_two_ends_is_one_account(make_ledger: MakeLedger, new_org: str) -> None:
    """As where an org moves to another time zone in the middle of a month; Valkey has no end in
    the names of accounts, and refuses to install one twice."""
    ledger = await make_ledger()
    for end, roll in ((4_102_444_800, True), (4_102_441_200, False)):
        await spend(ledger, new_org, 10, slots=(replace(MONTH, id=new_org, period_end_unix=end),))
        if roll:
            await Roller(ledger.database).roll()
    (amount,) = (await read_installation(ledger.database, new_org, 1, {})).settled
    assert (amount.nanousd, amount.slot.period_end_unix) == (20, 4_102_444_800)
    await Roller(ledger.database).roll()
    (amount,) = (await read_installation(ledger.database, new_org, 1, {})).settled
    assert (amount.nanousd, amount.slot.period_end_unix) == (20, 4_102_444_800)


async def test_what_is_over_is_not_installed_and_short_accounts_are_dropped(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    over = int((ledger.database.clock.now() - timedelta(days=2)).timestamp())
    slots = (
        Slot("org", new_org, "month", "2000-01", over),
        Slot("user", f"{new_org}/u", "day", "2000-01-31", over),
        replace(MONTH, id=new_org),
    )
    await spend(ledger, new_org, 10, slots=slots)
    await Roller(ledger.database).roll()
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 10}
    kept = await ledger.query("SELECT kind, period_id FROM dataplane.spend_roll ORDER BY 2")
    assert kept == [
        {"kind": "org", "period_id": "2000-01"},
        {"kind": "org", "period_id": "2100-01"},
    ]


_MANY = """
WITH made AS (
  INSERT INTO dataplane.intent (org_id, intent_id, root_org_id, run_id, call_no, user_id, kind,
         resource, hold_nanousd, price_book_version, epoch, slots, request_ciphertext, deadline_at,
         stage, cost_nanousd)
  SELECT %(org)s, uuidv7(), %(org)s, gen_random_uuid(), 0, 'u', 'model', 'm', 10, 1, 1,
         %(slots)s::jsonb, '', now(), 'actual', 10
    FROM generate_series(1, %(count)s)
  RETURNING org_id, intent_id
)
INSERT INTO dataplane.outcome (org_id, intent_id, stage, event_id, record_id, input_tokens,
       output_tokens, cost_nanousd, delta_nanousd, provider_excess, occurred_at)
SELECT org_id, intent_id, 'actual', uuidv7(), uuidv7(), 1, 1, 10, 10, false, now() FROM made
"""


@pytest.mark.req("R32")
async def test_an_install_of_a_root_with_a_hundred_thousand_calls_reads_few_rows(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    slots = json.dumps(
        [
            {
                "kind": "org",
                "id": new_org,
                "period": "month",
                "period_id": "2100-01",
                "period_end_unix": 4_102_444_800,
            }
        ]
    )
    async with await psycopg.AsyncConnection.connect(
        ledger.provisioned.owner_dsn, autocommit=True
    ) as owner:
        for _ in range(20):
            await owner.execute(_MANY, {"org": new_org, "slots": slots, "count": 5_000})
        await owner.execute("ANALYZE dataplane.intent, dataplane.outcome, dataplane.spend_roll")
    assert await rows_read(ledger, new_org) > 100_000
    assert await Roller(ledger.database).roll() == 100_000
    await spend(ledger, new_org, 7)
    assert await settled(ledger, new_org) == {f"org {new_org} 2100-01": 1_000_007}
    assert await rows_read(ledger, new_org) < 20


async def rows_read(ledger: Ledger, root: str) -> int:
    """Rows that the scans of the install's statement met, kept or not."""
    now = ledger.database.clock.now()
    async with ledger.database.system_tx(INSTALL) as cursor:
        await cursor.execute(statement("hold_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) " + statement("read_root"),
            {
                **position,
                "root": root,
                "since": smallest_call_id(now - timedelta(days=33)),
                "ended_before_unix": int(now.timestamp()),
            },
        )
        row = await cursor.fetchone()
    assert row is not None
    return _scanned(row["QUERY PLAN"][0]["Plan"])


def _scanned(node: dict[str, Any]) -> int:
    met = 0
    if "Relation Name" in node:
        dropped = node.get("Rows Removed by Filter", 0)
        met = int((node["Actual Rows"] + dropped) * node["Actual Loops"])
    return met + sum(_scanned(child) for child in node.get("Plans", ()))
