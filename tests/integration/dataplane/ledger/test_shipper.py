"""What is shipped, in which order, and that nothing is lost or skipped."""

from __future__ import annotations

from uuid import UUID

import pytest

from tenantplane.core.apis.events import AuditBatch, BatchAck, UsageBatch, UsageEvent
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.shipper import Shipped, Shipper
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

    async def send_usage(self, batch: UsageBatch) -> BatchAck:
        if self.away:
            raise DependencyUnavailable("The control plane is away.")
        new = [e for e in batch.events if e.event_id not in self.events]
        self.events |= {e.event_id: e for e in batch.events}
        if self.lose_next_ack:
            self.lose_next_ack = False
            raise DependencyUnavailable("The answer was lost.")
        return BatchAck(accepted=len(new), duplicate=len(batch.events) - len(new))

    async def send_audit(self, batch: AuditBatch) -> BatchAck:
        new = [c for c in batch.commitments if c.record_id not in self.entries]
        self.entries |= {c.record_id: c.entry_hex for c in batch.commitments}
        return BatchAck(accepted=len(new), duplicate=len(batch.commitments) - len(new))


async def spend(ledger: Ledger, org: str, cost: int) -> None:
    call = await ledger.meter.open(a_tenant(org), a_snapshot(org), a_call(1000))
    await call.complete(Usage(2, 3, cost), None)


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
