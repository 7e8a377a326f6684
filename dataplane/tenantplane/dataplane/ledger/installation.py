"""What Postgres knows of a root: settled amounts and unfinished calls, in one snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.valkey.requests import Installation, InstalledHold, SettledAmount, Slot
from tenantplane.dataplane.ledger.call_ids import smallest_call_id
from tenantplane.dataplane.ledger.rolling import PERIOD_GRACE
from tenantplane.dataplane.ledger.rows import slots_from_json
from tenantplane.dataplane.ledger.statements import statement

INSTALL = system_job("ledger.install", "a root's tree spans orgs: their spend shares its caps")

# The longest period, and the grace, and a day for the call that began before its period did.
_LONGEST_PERIOD = timedelta(days=31) + 2 * PERIOD_GRACE


async def read_installation(
    database: Database, root_org_id: str, epoch: int, snapshot_versions: Mapping[str, int]
) -> Installation:
    """All that the root's new epoch begins with. Raises DependencyUnavailable."""
    now = database.clock.now()
    async with database.system_tx(INSTALL) as cursor:
        # Held to the end of the transaction, and known to the planner as a value.
        await cursor.execute(statement("hold_roll_cursor"))
        position = await cursor.fetchone()
        assert position is not None
        await cursor.execute(
            statement("read_root"),
            {
                **position,
                "root": root_org_id,
                "since": smallest_call_id(now - _LONGEST_PERIOD),
                "ended_before_unix": int((now - PERIOD_GRACE).timestamp()),
            },
        )
        rows = await cursor.fetchall()
    return Installation(
        root_org_id=root_org_id,
        epoch=epoch,
        settled=tuple(_settled(row) for row in rows if row["hold_id"] is None),
        holds=tuple(_hold(row) for row in rows if row["hold_id"] is not None),
        snapshot_versions=dict(snapshot_versions),
    )


def _settled(row: dict[str, Any]) -> SettledAmount:
    slot = Slot(row["kind"], row["id"], row["period"], row["period_id"], row["period_end_unix"])
    return SettledAmount(slot, row["nanousd"])


def _hold(row: dict[str, Any]) -> InstalledHold:
    return InstalledHold(
        hold_id=row["hold_id"],
        nanousd=row["nanousd"],
        deadline_unix=row["deadline_unix"],
        slots=slots_from_json(row["slots"]),
        estimated=row["stage"] == "estimated",
    )
