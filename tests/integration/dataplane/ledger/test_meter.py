"""A call through hold, intent, outcome and settlement."""

from __future__ import annotations

import pytest

from tenantplane.core.apis.snapshot import LevelLimits
from tenantplane.core.audit.record import SealedRecord, open_sealed
from tenantplane.core.errors import HardCapReached
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import Usage
from tests.fixtures.ledger import Ledger, a_call, a_snapshot, a_tenant


async def test_a_completed_call_is_settled_and_recorded(ledger: Ledger, new_org: str) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=10_000)

    call = await ledger.meter.open(tenant, snapshot, a_call(4000))
    assert await ledger.in_valkey(snapshot) == (0, 4000)

    receipt = await call.complete(Usage(7, 5, NanoUSD(1234)), {"content": "hi"})

    assert receipt.record_id == call.receipt_id
    assert await ledger.in_valkey(snapshot) == (1234, 0)
    assert await ledger.settled_in_postgres(new_org) == 1234


async def test_the_record_holds_request_and_response(ledger: Ledger, new_org: str) -> None:
    call = await ledger.meter.open(a_tenant(new_org), a_snapshot(new_org), a_call())
    receipt = await call.complete(Usage(7, 5, NanoUSD(12)), {"content": "hi"})

    async with ledger.database.tenant_tx(new_org) as cursor:
        await cursor.execute(
            "SELECT record_id, ciphertext, entry FROM dataplane.audit_record"
            " WHERE org_id = %s AND record_id = %s",
            (new_org, receipt.record_id),
        )
        row = await cursor.fetchone()
    assert row is not None
    key = await ledger.meter.keys.of(new_org)
    record = open_sealed(new_org, SealedRecord(**row), key)
    assert record.request == {"messages": [{"role": "user", "content": "hello"}]}
    assert record.response == {"content": "hi"}
    assert record.status == "completed"


async def test_a_call_over_the_hard_cap_is_refused(ledger: Ledger, new_org: str) -> None:
    snapshot = a_snapshot(new_org, hard_cap_nanousd=1_500_000_000)
    with pytest.raises(HardCapReached) as refused:
        await ledger.meter.open(a_tenant(new_org), snapshot, a_call(1_500_000_001))
    assert "$1.50" in refused.value.detail
    assert refused.value.extra["limit_nanousd"] == 1_500_000_000
    assert await ledger.open_holds_in_postgres(new_org) == 0


@pytest.mark.req("R30")
async def test_what_is_used_is_read_without_being_counted(ledger: Ledger, new_org: str) -> None:
    limits = LevelLimits(requests_per_minute=3, hard_cap_nanousd=10_000)
    snapshot = a_snapshot(new_org, tokens_per_minute=100).model_copy(update={"per_user": limits})
    tenant = a_tenant(new_org)
    await ledger.meter.open(tenant, snapshot, a_call(1_000))
    for _ in range(5):
        use = await ledger.meter.use(snapshot, tenant)
    org, user = use.windows
    assert (org.tokens, org.tokens_limit, org.requests_limit) == (10, 100, None)
    assert (user.level_id, user.requests, user.requests_limit) == (f"{new_org}/user-1", 1, 3)
    held = {
        (p.level_kind, p.period): p.held_nanousd for p in await ledger.meter.spend(snapshot, tenant)
    }
    assert held == {("org", "day"): 1_000, ("org", "month"): 1_000, ("user", "month"): 1_000}
