"""Reads and writes usage events, and the sums over them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.usage import statements
from tenantplane.controlplane.usage.schemas import MonthlyUsage, SpendAlert
from tenantplane.controlplane.usage.spending import Account, Alert, Amount
from tenantplane.core.apis.events import OrgUsage, UsageEvent

_MOST_ALERTS = 500


async def insert(cursor: Cursor, plane: str, events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """Those that were new."""
    await cursor.execute(statements.INSERT_EVENTS, {"plane": plane, **_columns(events)})
    new = {(row["org_id"], row["event_id"]) for row in await cursor.fetchall()}
    # An event that came twice in one batch was stored once.
    by_id = {(event.org_id, event.event_id): event for event in events}
    return [event for key, event in by_id.items() if key in new]


async def with_other_content(cursor: Cursor, events: Sequence[UsageEvent]) -> str | None:
    """The id of an event that is stored with other content than it has here."""
    await cursor.execute(statements.OTHER_CONTENT, _columns(events))
    row = await cursor.fetchone()
    return None if row is None else str(row["event_id"])


async def add_plane_usage(cursor: Cursor, plane: str, events: Sequence[UsageEvent]) -> None:
    by_org: dict[str, list[UsageEvent]] = {}
    for event in events:
        by_org.setdefault(event.org_id, []).append(event)
    await cursor.execute(
        statements.ADD_PLANE_USAGE,
        {
            "plane": plane,
            "org_ids": list(by_org),
            "roots": [of[0].root_org_id for of in by_org.values()],
            "events": [len(of) for of in by_org.values()],
            "nanousd": [sum(event.delta_nanousd for event in of) for of in by_org.values()],
        },
    )


async def add_level_spend(cursor: Cursor, added: Mapping[Account, Amount]) -> dict[Account, int]:
    """What each account has spent now, in nano-dollars."""
    await cursor.execute(
        statements.ADD_LEVEL_SPEND,
        {
            "org_ids": [account.org_id for account in added],
            "periods": [account.period for account in added],
            "period_ids": [account.period_id for account in added],
            "events": [amount.events for amount in added.values()],
            "nanousd": [amount.nanousd for amount in added.values()],
        },
    )
    return {
        Account(row["org_id"], row["period"], row["period_id"]): row["nanousd"]
        for row in await cursor.fetchall()
    }


async def raise_alerts(cursor: Cursor, alerts: Sequence[Alert]) -> list[tuple[Account, int]]:
    """Account and threshold of those that were not raised before."""
    await cursor.execute(
        statements.RAISE_ALERTS,
        {
            "org_ids": [alert.account.org_id for alert in alerts],
            "periods": [alert.account.period for alert in alerts],
            "period_ids": [alert.account.period_id for alert in alerts],
            "thresholds": [alert.threshold_percent for alert in alerts],
            "cap_kinds": [alert.cap_kind for alert in alerts],
            "caps": [alert.cap_nanousd for alert in alerts],
            "spent": [alert.spent_nanousd for alert in alerts],
        },
    )
    return [
        (Account(row["org_id"], row["period"], row["period_id"]), row["threshold_percent"])
        for row in await cursor.fetchall()
    ]


async def alerts(cursor: Cursor, org_id: str) -> list[SpendAlert]:
    """The newest first."""
    await cursor.execute(statements.ALERTS, {"org_id": org_id, "limit": _MOST_ALERTS})
    return [SpendAlert(**row) for row in await cursor.fetchall()]


async def tree(cursor: Cursor, org_id: str) -> list[str]:
    """The org and all below it, in order."""
    await cursor.execute(statements.TREE, {"org_id": org_id})
    return sorted({org_id, *(row["org_id"] for row in await cursor.fetchall())})


async def by_month(cursor: Cursor, org_ids: Sequence[str], time_zone: str) -> list[MonthlyUsage]:
    await cursor.execute(statements.BY_MONTH, {"org_ids": list(org_ids), "time_zone": time_zone})
    return [MonthlyUsage(**row) for row in await cursor.fetchall()]


async def by_day(cursor: Cursor, org_id: str, since: date) -> dict[date, int]:
    """Nano-dollars by day, those of all orgs below it too; days without spend are not there."""
    await cursor.execute(statements.DAYS, {"org_id": org_id, "since": since.isoformat()})
    return {date.fromisoformat(row["period_id"]): row["nanousd"] for row in await cursor.fetchall()}


async def plane_usage(cursor: Cursor, plane: str) -> list[OrgUsage]:
    await cursor.execute(statements.PLANE_USAGE, {"plane": plane})
    return [OrgUsage(**row) for row in await cursor.fetchall()]


async def plane_events(
    cursor: Cursor, plane: str, org_id: str, after: UUID, limit: int
) -> list[UsageEvent]:
    await cursor.execute(
        statements.PLANE_EVENTS,
        {"plane": plane, "org_id": org_id, "after": after, "limit": limit},
    )
    return [UsageEvent(**row) for row in await cursor.fetchall()]


async def erase_persons(cursor: Cursor, org_id: str) -> None:
    await cursor.execute(statements.ERASE_PERSONS, {"org_id": org_id})


def _columns(events: Sequence[UsageEvent]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [getattr(event, name) for event in events] for name in UsageEvent.model_fields
    }
    columns["content_sha256"] = [_sha256(event) for event in events]
    return columns


def _sha256(event: UsageEvent) -> bytes:
    # pydantic writes fields in the order of the class, so equal events are equal texts.
    return hashlib.sha256(event.model_dump_json().encode()).digest()
