"""Reads and writes usage events."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.usage import statements
from tenantplane.controlplane.usage.schemas import MonthlyUsage
from tenantplane.core.apis.events import UsageEvent


async def insert(cursor: Cursor, plane: str, events: Sequence[UsageEvent]) -> int:
    """How many were new."""
    await cursor.execute(statements.INSERT_EVENTS, {"plane": plane, **_columns(events)})
    return cursor.rowcount


async def with_other_content(cursor: Cursor, events: Sequence[UsageEvent]) -> str | None:
    """The id of an event that is stored with other content than it has here."""
    await cursor.execute(statements.OTHER_CONTENT, _columns(events))
    row = await cursor.fetchone()
    return None if row is None else str(row["event_id"])


async def by_month(cursor: Cursor, org_id: str, time_zone: str) -> list[MonthlyUsage]:
    await cursor.execute(statements.BY_MONTH, {"org_id": org_id, "time_zone": time_zone})
    return [MonthlyUsage(**row) for row in await cursor.fetchall()]


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
