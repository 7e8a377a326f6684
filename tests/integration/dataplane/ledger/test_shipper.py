"""What is shipped, in which order, and that nothing is lost or skipped."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import pytest

from tenantplane.core.apis.events import AuditBatch, BatchAck, UsageBatch, UsageEvent
from tenantplane.core.errors import (
    Conflict,
    DependencyUnavailable,
    Forbidden,
    RateLimited,
    TenantplaneError,
    Unauthenticated,
    Unprocessable,
)
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.shipper import Fields, Shipped, Shipper
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant
from tests.integration.dataplane.ledger.test_append import (
    an_intent,
    an_outcome,
    app_connection,
    intend,
)


class ControlPlane:
    """Keeps what it gets by id, as the real one does; may be away."""

    def __init__(self) -> None:
        self.events: dict[UUID, UsageEvent] = {}
        self.entries: dict[UUID, str] = {}
        self.away = False
        self.lose_next_ack = False
        # Orgs of which it takes nothing, and how it says so.
        self.refused: dict[str, TenantplaneError] = {}
        # After a refusal it is away.
        self.falls_after_refusal = False

    async def send_usage(self, events: Sequence[Fields]) -> BatchAck:
        batch = UsageBatch.model_validate({"events": events})
        self._require_good(event.org_id for event in batch.events)
        new = [e for e in batch.events if e.event_id not in self.events]
        self.events |= {e.event_id: e for e in batch.events}
        if self.lose_next_ack:
            self.lose_next_ack = False
            raise DependencyUnavailable("The answer was lost.")
        return BatchAck(accepted=len(new), duplicate=len(batch.events) - len(new))

    async def send_audit(self, commitments: Sequence[Fields]) -> BatchAck:
        batch = AuditBatch.model_validate({"commitments": commitments})
        self._require_good(commitment.org_id for commitment in batch.commitments)
        new = [c for c in batch.commitments if c.record_id not in self.entries]
        self.entries |= {c.record_id: c.entry_hex for c in batch.commitments}
        return BatchAck(accepted=len(new), duplicate=len(batch.commitments) - len(new))

    def _require_good(self, orgs: Iterable[str]) -> None:
        """All of a batch or none, as the real one."""
        if self.away:
            raise DependencyUnavailable("The control plane is away.")
        bad = next((org for org in orgs if org in self.refused), None)
        if bad is not None:
            self.away = self.falls_after_refusal
            raise self.refused[bad]


async def spend(ledger: Ledger, org: str, cost: int) -> None:
    call = await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(1000))
    await call.complete(Usage(2, 3, NanoUSD(cost)), None)


async def test_every_event_and_commitment_is_shipped_once(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control, batch=2)
    for cost in range(1, 6):
        await spend(ledger, new_org, cost)

    assert await shipper.ship() == Shipped(usage=5, audit=5)
    assert await shipper.ship() == Shipped()

    assert sum(e.delta_nanousd for e in control.events.values()) == 15
    assert len(control.entries) == 5
    event = next(iter(control.events.values()))
    assert (event.org_id, event.user_id, event.key_id) == (new_org, "user-1", "k1")
    assert (event.resource, event.price_book_version, event.stage) == ("assistant-1", 3, "actual")


async def test_nothing_is_lost_while_the_control_plane_is_away(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control)
    await spend(ledger, new_org, 10)
    control.away = True
    with pytest.raises(DependencyUnavailable):
        await shipper.ship()
    control.away, control.lose_next_ack = False, True
    with pytest.raises(DependencyUnavailable):
        await shipper.ship()
    assert await shipper.ship() == Shipped(usage=1, audit=1)
    assert len(control.events) == 1


async def test_a_long_transaction_loses_no_row(make_ledger: MakeLedger, new_org: str) -> None:
    """Its rows have older transaction ids than rows that were shipped before it committed."""
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control)
    intent = await an_intent(ledger, new_org)
    await intend(ledger, intent)
    await spend(ledger, f"{new_org}-2", 1)  # a rebuild of Valkey would wait for the slow one
    await shipper.ship()
    control.events.clear()
    async with app_connection(ledger) as slow:
        await append_outcome(slow, ledger, an_outcome(intent, 7))  # not committed
        await spend(ledger, f"{new_org}-2", 10)
        await shipper.ship()
        assert control.events == {}  # what is newer than a running transaction waits for it
        await slow.commit()
    await shipper.ship()
    assert sorted(e.cost_nanousd for e in control.events.values()) == [7, 10]


async def append_outcome(connection: object, ledger: Ledger, row: object) -> None:
    await ledger.meter.journal._append_outcomes(connection, [row])  # type: ignore[arg-type,list-item]


def new_orgs(count: int) -> list[str]:
    return [f"org-{secrets.token_hex(6)}" for _ in range(count)]


async def set_aside(ledger: Ledger) -> list[tuple[str, str, str]]:
    """Org, stream and reason."""
    rows: list[dict[str, Any]] = await ledger.query(
        "SELECT org_id, stream, reason FROM dataplane.shipping_refused ORDER BY org_id, stream"
    )
    return [(row["org_id"], row["stream"], row["reason"]) for row in rows]


@pytest.mark.parametrize(
    "refusal",
    [
        Forbidden("not here", code="org_not_on_plane"),
        Conflict("other content", code="event_changed"),
        Conflict("other content", code="record_changed"),
    ],
    ids=lambda refusal: refusal.error_code,
)
@pytest.mark.parametrize("place", [0, 2, 3, 6])
async def test_a_refused_row_is_set_aside_and_stops_no_other(
    make_ledger: MakeLedger,
    place: int,
    refusal: TenantplaneError,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control, batch=5)
    orgs = new_orgs(7)
    for org in orgs:
        await spend(ledger, org, 10)
    control.refused = {orgs[place]: refusal}

    assert await shipper.ship() == Shipped(usage=6, audit=6, set_aside=2)

    well = set(orgs) - {orgs[place]}
    assert {event.org_id for event in control.events.values()} == well
    assert len(control.entries) == 6
    reason = refusal.error_code
    assert await set_aside(ledger) == [
        (orgs[place], "audit", reason),
        (orgs[place], "usage", reason),
    ]
    told = [r.getMessage() for r in caplog.records if r.name == "tenantplane.security"]
    assert len(told) == 2
    assert all(orgs[place] in text and reason in text for text in told)
    assert all(r.levelno == logging.ERROR for r in caplog.records if r.name.endswith("security"))
    assert await shipper.ship() == Shipped()
    # What comes later is shipped, and another process knows what was set aside.
    await spend(ledger, orgs[place - 1], 20)
    replica = Shipper(ledger.database, control)
    assert await replica.ship() == Shipped(usage=1, audit=1)
    assert (shipper.refused_rows, replica.refused_rows) == (2, 2)


async def test_a_batch_of_nothing_but_refused_rows_ends_too(make_ledger: MakeLedger) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control, batch=2)
    orgs = new_orgs(3)
    for org in orgs:
        await spend(ledger, org, 10)
    control.refused = dict.fromkeys(orgs, Forbidden("not here", code="org_not_on_plane"))
    assert await shipper.ship() == Shipped(set_aside=6)
    assert len(await set_aside(ledger)) == 6
    assert await shipper.ship() == Shipped()


async def test_two_shippers_set_a_row_aside_once(make_ledger: MakeLedger) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    orgs = new_orgs(3)
    for org in orgs:
        await spend(ledger, org, 10)
    control.refused = {orgs[1]: Conflict("other content", code="event_changed")}
    await asyncio.gather(*(Shipper(ledger.database, control).ship() for _ in range(2)))
    assert len(await set_aside(ledger)) == 2
    assert len(control.events) == 2


@pytest.mark.parametrize(
    "trouble",
    [
        DependencyUnavailable("away"),
        RateLimited("slower"),
        Unauthenticated("who?"),
        Forbidden("a proxy's own page"),
        Forbidden("this plane was revoked", code="plane_revoked"),
        Conflict("another writer"),
        Unprocessable("another version's batch", code="invalid_fields"),
        # A leaf of another status may not borrow the code of a refused row.
        DependencyUnavailable("away", code="event_changed"),
    ],
    ids=lambda trouble: f"{trouble.status} {trouble.error_code}",
)
async def test_what_is_not_said_of_a_row_sets_none_aside(
    make_ledger: MakeLedger, new_org: str, trouble: TenantplaneError
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control)
    await spend(ledger, new_org, 10)
    control.refused = {new_org: trouble}
    with pytest.raises(type(trouble)):
        await shipper.ship()
    assert await set_aside(ledger) == []
    control.refused = {}
    assert await shipper.ship() == Shipped(usage=1, audit=1)


async def test_an_outage_in_the_search_for_a_refused_row_sets_none_aside(
    make_ledger: MakeLedger,
) -> None:
    ledger, control = await make_ledger(), ControlPlane()
    shipper = Shipper(ledger.database, control)
    orgs = new_orgs(4)
    for org in orgs:
        await spend(ledger, org, 10)
    control.refused = {orgs[2]: Forbidden("not here", code="org_not_on_plane")}
    control.falls_after_refusal = True
    with pytest.raises(DependencyUnavailable):
        await shipper.ship()
    assert await set_aside(ledger) == []
    control.away = control.falls_after_refusal = False
    assert await shipper.ship() == Shipped(usage=3, audit=3, set_aside=2)
