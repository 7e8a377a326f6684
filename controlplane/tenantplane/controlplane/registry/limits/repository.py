"""Reads and writes raises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from tenantplane.controlplane.db.cursors import Cursor
from tenantplane.controlplane.registry.limits import statements
from tenantplane.controlplane.registry.limits.decisions import Period, Raise
from tenantplane.core.apis.snapshot import CapRaise


@dataclass(frozen=True, slots=True)
class RaiseRow:
    """A raise with whose doing it was."""

    raise_id: str
    period: Period
    extra_nanousd: int
    begins_at: datetime
    ends_at: datetime
    created_by: str
    created_at: datetime
    ended_by: str | None
    ended_at: datetime | None


async def insert(cursor: Cursor, org_id: str, raise_id: UUID, wanted: Raise, actor: str) -> None:
    await cursor.execute(
        statements.INSERT_RAISE,
        {
            "org_id": org_id,
            "raise_id": raise_id,
            "period": wanted.period,
            "extra_nanousd": wanted.extra_nanousd,
            "begins_at": wanted.begins_at,
            "ends_at": wanted.ends_at,
            "actor": actor,
        },
    )


async def rows(cursor: Cursor, org_id: str) -> list[RaiseRow]:
    """All raises that an org ever had, oldest first."""
    await cursor.execute(statements.RAISES, {"org_id": org_id})
    return [RaiseRow(**row) for row in await cursor.fetchall()]


async def end(cursor: Cursor, org_id: str, raise_id: UUID, actor: str) -> bool:
    """False where it is not there, or stands no more."""
    await cursor.execute(
        statements.END_RAISE, {"org_id": org_id, "raise_id": raise_id, "actor": actor}
    )
    return cursor.rowcount == 1


async def standing(cursor: Cursor, org_ids: Sequence[str]) -> dict[str, tuple[CapRaise, ...]]:
    """By org, those in force and those to come."""
    await cursor.execute(statements.STANDING_RAISES, {"org_ids": list(org_ids)})
    found: dict[str, tuple[CapRaise, ...]] = {}
    for row in await cursor.fetchall():
        org_id = row.pop("org_id")
        # In one zone, whatever the session's is: what a snapshot says is compared by its text.
        times = {name: row[name].astimezone(UTC) for name in ("begins_at", "ends_at")}
        found[org_id] = (*found.get(org_id, ()), CapRaise(**row | times))
    return found


async def acknowledged_until(cursor: Cursor, org_id: str) -> datetime | None:
    await cursor.execute(statements.READ_ACKNOWLEDGED, {"org_id": org_id})
    row = await cursor.fetchone()
    return None if row is None else row["excess_acknowledged_until"]


async def acknowledge(cursor: Cursor, org_id: str, until: datetime) -> None:
    await cursor.execute(statements.ACKNOWLEDGE_EXCESS, {"org_id": org_id, "until": until})
