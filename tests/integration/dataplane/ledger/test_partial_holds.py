"""Holds of less than the worst case: as much as a cap has room for, in Valkey and Postgres alike."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from tenantplane.core.errors import Conflict, DependencyUnavailable, HardCapReached
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import CallRequest, Usage
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant

CAP = 1_000


def at_least(least: int, worst: int) -> CallRequest:
    return a_call(worst, least_nanousd=NanoUSD(least))


async def test_what_a_cap_has_room_for_is_held_in_both_stores(ledger: Ledger, new_org: str) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    await ledger.meter.open(tenant, snapshot, a_call(700))
    call = await ledger.meter.open(tenant, snapshot, at_least(200, 500))
    assert call.held_nanousd == 300
    assert await ledger.in_valkey(snapshot) == (0, CAP)
    assert await ledger.open_holds_in_postgres(new_org) == CAP
    await call.complete(Usage(1, 1, NanoUSD(250)), None)
    assert await ledger.in_valkey(snapshot) == (250, 700)


async def test_less_than_the_least_is_refused_and_holds_nothing(
    ledger: Ledger, new_org: str
) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    await ledger.meter.open(tenant, snapshot, a_call(700))
    with pytest.raises(HardCapReached):
        await ledger.meter.open(tenant, snapshot, at_least(301, 500))
    assert await ledger.in_valkey(snapshot) == (0, 700)
    assert await ledger.open_holds_in_postgres(new_org) == 700


@pytest.mark.parametrize("least", [-1, 501, True])
def test_a_least_amount_that_is_none_is_refused(least: int) -> None:
    with pytest.raises(ValueError, match="least_nanousd"):
        at_least(least, 500)


async def test_a_hold_is_enlarged_by_as_much_as_there_is(ledger: Ledger, new_org: str) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    await ledger.meter.open(tenant, snapshot, a_call(600))
    call = await ledger.meter.open(tenant, snapshot, a_call(100))
    await call.enlarge(NanoUSD(900), least_nanousd=NanoUSD(150))
    assert call.held_nanousd == 400
    with pytest.raises(HardCapReached):
        await call.enlarge(NanoUSD(900), least_nanousd=NanoUSD(401))
    assert call.held_nanousd == 400
    assert await ledger.in_valkey(snapshot) == (0, CAP)
    assert await ledger.open_holds_in_postgres(new_org) == CAP
    await call.abandon()
    assert await ledger.in_valkey(snapshot) == (400, 600)


@pytest.mark.fault("F35")
async def test_streams_that_grow_together_never_pass_the_cap(ledger: Ledger, new_org: str) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    calls = [await ledger.meter.open(tenant, snapshot, a_call(10)) for _ in range(20)]

    async def grow(step: int) -> None:
        call = calls[step % len(calls)]
        held = call.held_nanousd
        with suppress(HardCapReached):
            await call.enlarge(NanoUSD(held + 35), least_nanousd=NanoUSD(held + 1))

    for round_no in range(3):
        await asyncio.gather(*(grow(round_no * 20 + step) for step in range(20)))
    assert sum(call.held_nanousd for call in calls) == CAP
    assert await ledger.in_valkey(snapshot) == (0, CAP)
    assert await ledger.open_holds_in_postgres(new_org) == CAP


async def test_a_hold_grows_under_the_limits_in_force(ledger: Ledger, new_org: str) -> None:
    """Not under those of its beginning, which a newer snapshot may have lowered meanwhile."""
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    call = await ledger.meter.open(tenant, snapshot, a_call(100))
    lowered = a_snapshot(new_org, version=2, hard_cap_nanousd=300)
    await ledger.meter.open(tenant, lowered, a_call(50))
    with pytest.raises(DependencyUnavailable) as stale:
        await call.enlarge(NanoUSD(200))
    assert stale.value.error_code == "stale_snapshot"
    await call.enlarge(NanoUSD(900), least_nanousd=NanoUSD(101), snapshot=lowered)
    assert call.held_nanousd == 250


@pytest.mark.fault("F38")
async def test_a_partial_hold_survives_the_loss_of_valkey(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    await ledger.meter.open(tenant, snapshot, a_call(700))
    call = await ledger.meter.open(tenant, snapshot, at_least(200, 500))
    ledger.valkey.kill()
    ledger.valkey.run()
    assert await ledger.in_valkey(snapshot) == (0, CAP)
    with pytest.raises(HardCapReached):
        await call.enlarge(NanoUSD(301))
    assert call.held_nanousd == 300


async def test_a_hold_that_grows_while_its_call_ends_leaves_nothing(
    ledger: Ledger, new_org: str
) -> None:
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=CAP)
    for _ in range(10):
        call = await ledger.meter.open(tenant, snapshot, a_call(10))
        growing = asyncio.create_task(call.enlarge(NanoUSD(50)))
        await call.complete(Usage(1, 1, NanoUSD(5)), None)
        with suppress(Conflict):  # it came too late, which is as good
            await growing
    assert await ledger.in_valkey(snapshot) == (50, 0)
    assert await ledger.open_holds_in_postgres(new_org) == 0
