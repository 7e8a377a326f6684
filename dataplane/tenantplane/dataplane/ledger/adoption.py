"""Brings back what a restored database lost, from what the control plane was told before.

An event of a call that this database knows becomes its outcome, with the event's own id; one of a
call that it does not know becomes an adjustment of the accounts that the call stood on. Both are
found by the event's id, so adopting twice, or dying in between, adds nothing twice. What the lost
calls said is gone with their records; the commitments to them stand at the control plane.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import UUID

from tenantplane.core.apis.events import PlaneUsage, UsageBatch, UsageEvent
from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import Conflict
from tenantplane.core.ids import new_id
from tenantplane.core.money import NanoUSD
from tenantplane.core.tenancy import TenantContext
from tenantplane.core.valkey.requests import Slot
from tenantplane.dataplane.gate.admission import placed_slots, plan_levels
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.closing import Call, Ending
from tenantplane.dataplane.ledger.meter import Meter
from tenantplane.dataplane.ledger.rows import slots_to_json
from tenantplane.dataplane.ledger.statements import statement
from tenantplane.dataplane.ledger.watermark import known_usage, missing

ADOPT: Final = system_job("ledger.adopt", "brings back what a restored plane lost of all its orgs")

_BEFORE_ALL: Final = UUID(int=0)
_REASON: Final = "restored from the control plane's usage events"


class Source(Protocol):
    """What the control plane was told. Raises leaves of core/errors.py."""

    async def acknowledged_usage(self) -> PlaneUsage: ...
    async def reported_usage(self, org_id: str, after: UUID) -> UsageBatch: ...


@dataclass(frozen=True, slots=True)
class Adopted:
    orgs: int = 0
    events: int = 0
    nanousd: int = 0


async def adopt(meter: Meter, source: Source) -> Adopted:
    """Brings back all that is missing; the limits are rebuilt from it. The meter must be started.

    Raises DependencyUnavailable and what the control plane refuses; what was brought back stays.
    """
    lost = missing(await source.acknowledged_usage(), await known_usage(meter.database))
    adopted: list[UsageEvent] = []
    for org_id in sorted(lost):
        adopted += await _adopt_org(meter, source, org_id)
    if adopted:
        await meter.store.rebuild()
    return Adopted(len(lost), len(adopted), sum(event.delta_nanousd for event in adopted))


async def _adopt_org(meter: Meter, source: Source, org_id: str) -> list[UsageEvent]:
    snapshot = await stored_snapshot(meter.database, org_id)
    adopted, after = [], _BEFORE_ALL
    while events := (await source.reported_usage(org_id, after)).events:
        after = events[-1].event_id
        unknown = await _unknown(meter.database, org_id, events)
        # An estimate before the word that corrects it.
        for event in sorted(unknown, key=lambda e: (e.stage == "actual", e.event_id)):
            if await _intent(meter.database, event) is None:
                await _adjust(meter.database, event, slots_of(snapshot, event))
            else:
                await _conclude(meter, event)
            adopted.append(event)
    return adopted


def slots_of(snapshot: Snapshot, event: UsageEvent) -> tuple[Slot, ...]:
    """The accounts that the event's call stood on, by the limits that are in force now."""
    caller = TenantContext(
        org_id=event.org_id,
        root_org_id=event.root_org_id,
        principal=f"key:{event.key_id}" if event.key_id else f"user:{event.user_id}",
        user_id=event.user_id,
        plan=snapshot.plan,
        region=snapshot.region,
        key_id=event.key_id,
    )
    levels = plan_levels(snapshot, caller, None, event.occurred_at)
    return placed_slots(levels, int(event.occurred_at.timestamp() * 1000))


async def stored_snapshot(database: Database, org_id: str) -> Snapshot:
    """The limits that this plane was told last of the org. Raises Conflict where there are none."""
    async with database.system_tx(ADOPT) as cursor:
        await cursor.execute(statement("read_snapshot"), {"org_id": org_id})
        row = await cursor.fetchone()
    if row is None:
        raise Conflict(
            f"This plane has no snapshot of {org_id!r}, so its accounts are not known.",
            hint="Let the plane run until it has synchronised with its control plane; then adopt.",
        )
    # It was verified before it was stored.
    payload = str(row["jws"]).split(".")[1]
    content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    return Snapshot.model_validate(json.loads(content))


async def _unknown(
    database: Database, org_id: str, events: Sequence[UsageEvent]
) -> list[UsageEvent]:
    async with database.system_tx(ADOPT) as cursor:
        await cursor.execute(
            statement("known_events"),
            {"org_id": org_id, "event_ids": [event.event_id for event in events]},
        )
        known = {row["event_id"] for row in await cursor.fetchall()}
    return [event for event in events if event.event_id not in known]


async def _intent(database: Database, event: UsageEvent) -> dict[str, Any] | None:
    async with database.system_tx(ADOPT) as cursor:
        await cursor.execute(
            statement("find_intent"), {"org_id": event.org_id, "intent_id": event.intent_id}
        )
        return await cursor.fetchone()


async def _adjust(database: Database, event: UsageEvent, slots: tuple[Slot, ...]) -> None:
    async with database.system_tx(ADOPT) as cursor:
        await cursor.execute(
            statement("adjust"),
            {
                "org_id": event.org_id,
                "event_id": event.event_id,
                "root": event.root_org_id,
                "intent_id": event.intent_id,
                "slots": slots_to_json(slots),
                "delta_nanousd": event.delta_nanousd,
                "reason": _REASON,
                "occurred_at": event.occurred_at,
            },
        )


async def _conclude(meter: Meter, event: UsageEvent) -> None:
    call = Call(
        org_id=event.org_id,
        intent_id=event.intent_id,
        root_org_id=event.root_org_id,
        user_id=event.user_id,
        run_id=event.run_id,
        call_no=event.call_no,
        thread_id=event.thread_id,
        kind=event.kind,
        resource=event.resource,
    )
    ending = Ending(
        event_id=event.event_id,
        record_id=new_id(),
        status="interrupted",
        usage=Usage(
            event.input_tokens,
            event.output_tokens,
            NanoUSD(event.cost_nanousd),
            estimated=event.stage == "estimated",
        ),
        response={"reason": _REASON},
        occurred_at=event.occurred_at,
    )
    await meter.closer.close(call, ending)
