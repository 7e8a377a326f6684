"""One org's long prompts are nobody else's wait."""

from __future__ import annotations

import asyncio
import time

from pydantic import JsonValue

from tenantplane.core.audit.record import AuditRecord, seal
from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import Usage
from tests.fixtures.ledger import Ledger, a_call, a_snapshot, a_tenant

CONTENT: JsonValue = [{"role": "user", "content": "x"} for _ in range(80_000)]


async def seconds_to_seal(ledger: Ledger, org: str) -> float:
    """On this machine, as busy as it is."""
    key = await ledger.meter.keys.of(org)
    began = time.perf_counter()
    record = AuditRecord(
        record_id=new_id(),
        org_id=org,
        user_id="u",
        run_id=new_id(),
        call_no=0,
        kind="model",
        resource="m",
        occurred_at=ledger.database.clock.now(),
        status="completed",
        request=CONTENT,
    )
    seal(record, key)
    return time.perf_counter() - began


async def longest_turn(done: asyncio.Task[object]) -> float:
    longest = 0.0
    while not done.done():
        began = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def test_a_long_record_is_sealed_beside_the_loop(ledger: Ledger, new_org: str) -> None:
    request = a_call(100, audit_request=CONTENT)
    call = await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), request)
    closing: asyncio.Task[object] = asyncio.create_task(
        call.complete(Usage(1, 1, NanoUSD(1)), "short")
    )
    longest = await longest_turn(closing)
    assert longest < await seconds_to_seal(ledger, new_org) / 2
    assert await ledger.settled_in_postgres(new_org) == 1
