"""The sweeper among orgs that cannot be swept."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta
from typing import Any

import pytest

from tenantplane.core.errors import Forbidden
from tenantplane.core.ids import new_id
from tenantplane.core.valkey.answers import Admitted
from tenantplane.core.valkey.requests import AdmitRequest
from tenantplane.dataplane.gate.admission import plan_levels
from tenantplane.dataplane.ledger.sweeper import Sweeper, Swept
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant

LATER = timedelta(minutes=10)


def close_the_key_of(ledger: Ledger, org: str, error: Exception) -> None:
    """As if that org's owner had revoked its key in the KMS."""
    keys = ledger.meter.keys
    of = keys.of

    async def refused(org_id: str) -> Any:
        if org_id == org:
            raise error
        return await of(org_id)

    keys.of = refused  # type: ignore[method-assign]


@pytest.mark.parametrize("error", [Forbidden("revoked"), ValueError("what nobody expected")])
async def test_an_org_that_cannot_be_swept_stands_in_no_others_way(
    make_ledger: MakeLedger, error: Exception
) -> None:
    ledger = await make_ledger()
    locked, well = (f"org-{secrets.token_hex(6)}" for _ in range(2))
    for org in (locked, locked, locked, well):
        await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(500))
    close_the_key_of(ledger, locked, error)
    # Fewer at once than the locked org has, which are the oldest.
    sweeper = Sweeper(
        ledger.meter,
        lambda: (locked, well),
        now=lambda: ledger.database.clock.now() + LATER,
        batch=2,
    )
    assert (await sweeper.sweep()).estimated == 1
    assert await ledger.settled_in_postgres(well) == 500
    # Nothing of the locked org is free.
    assert await ledger.in_valkey(a_snapshot(locked)) == (0, 1500)


async def hold(ledger: Ledger, org: str, hold_id: str) -> None:
    """Expires after a second; as of a process that died before it committed the intent."""
    request = AdmitRequest(
        root_org_id=org,
        epoch=0,
        org_id=org,
        snapshot_version=1,
        hold_id=hold_id,
        hold_nanousd=100,
        tokens=0,
        ttl_seconds=1,
        levels=plan_levels(a_snapshot(org), None, None, ledger.database.clock.now()),
    )
    answer, _ = await ledger.meter.store.admit(request)
    assert isinstance(answer, Admitted)


async def all_expired(ledger: Ledger, org: str, count: int) -> None:
    async with asyncio.timeout(10):
        while len(await ledger.meter.store.expired(org, 100)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_expired_holds_that_must_wait_keep_no_others_from_their_turn(
    make_ledger: MakeLedger, new_org: str
) -> None:
    """More than fit in a page, and the oldest of them belong to calls that are still open."""
    ledger = await make_ledger()
    open_calls = [
        await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call(500))
        for _ in range(5)
    ]
    # Valkey's deadline of an open call's hold cannot be passed in a test: put it in the past.
    redis = ledger.store._redis
    (deadlines,) = await redis.keys(f"tp:{{{new_org}}}:deadlines:*")
    await redis.zadd(deadlines, {str(call.intent_id): 1 for call in open_calls})
    for _ in range(5):
        await hold(ledger, new_org, str(new_id()))
    await all_expired(ledger, new_org, 10)

    # Later by enough that no intent can come for the holds, not by so much that calls are overdue.
    sweeper = Sweeper(
        ledger.meter,
        lambda: (new_org,),
        now=lambda: ledger.database.clock.now() + timedelta(seconds=30),
        batch=2,
    )
    assert await sweeper.sweep() == Swept(released=5)
    assert await ledger.in_valkey(a_snapshot(new_org)) == (0, 2500)
    assert await sweeper.sweep() == Swept()
