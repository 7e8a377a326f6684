"""Where a provider reported more than a call was held for, the org's next calls wait for a person.

The outcomes are the truth (`provider_excess`). Each process knows the newest excess of each org: it
reads them when it starts, hears of others by a notification that is sent with the outcome's commit,
and notes its own calls' itself. So asking costs nothing, and a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from tenantplane.core.apis.snapshot import Snapshot
from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable, ProviderExcess
from tenantplane.dataplane.ledger.statements import statement

_security = logging.getLogger("tenantplane.security")

CHANNEL: Final = "dataplane_excess"
EXCESS: Final = system_job("ledger.excess", "a replica knows of the excesses of all its orgs")
_AGAIN_SECONDS: Final = 1.0
_RELOAD_SECONDS: Final = 30.0


class Excesses:
    """One per process. `load` before the first call, `follow` for ever after."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest: dict[str, datetime] = {}

    def require(self, snapshot: Snapshot) -> None:
        """Raises ProviderExcess where an excess of the org was not acknowledged yet."""
        newest = self._newest.get(snapshot.org_id)
        if newest is not None and is_halted(snapshot, newest):
            raise ProviderExcess(
                f"A provider reported more for a call of {snapshot.org_id!r} than was held for it, "
                f"at {newest.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}; calls wait until somebody has "
                "looked at it.",
                hint="Ask the platform operator to acknowledge the excess.",
            )

    def note(self, org_id: str, occurred_at: datetime) -> None:
        """An excess of the org, from whatever source; older news changes nothing."""
        known = self._newest.get(org_id)
        if known is None or known < occurred_at:
            self._newest[org_id] = occurred_at
            _security.error("a provider reported more than was held for a call of %s", org_id)

    async def load(self, org_id: str | None = None) -> None:
        """Reads the newest excess of an org, or of all. Raises DependencyUnavailable."""
        async with self._database.system_tx(EXCESS) as cursor:
            await cursor.execute(statement("read_excesses"), {"org_id": org_id})
            for row in await cursor.fetchall():
                self.note(row["org_id"], row["occurred_at"])

    async def follow(self) -> None:
        """Hears of excesses that other replicas recorded, for ever; where a pooler swallows what is
        told, they are read within half a minute."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="excesses.listen")
            group.create_task(self._reload(), name="excesses.reload")

    async def _listen(self) -> None:
        async for org_id in self._database.listen(CHANNEL):
            # "" after each connection: what was told meanwhile was heard by nobody.
            await self._load_surely(org_id or None)

    async def _reload(self) -> None:
        while True:
            await asyncio.sleep(_RELOAD_SECONDS)
            await self._load_surely(None)

    async def _load_surely(self, org_id: str | None) -> None:
        while True:
            try:
                return await self.load(org_id)
            except DependencyUnavailable:
                await asyncio.sleep(_AGAIN_SECONDS)


def is_halted(snapshot: Snapshot, newest: datetime) -> bool:
    """Whether an excess at `newest` stops the org under this snapshot."""
    acknowledged = snapshot.excess_acknowledged_until
    return snapshot.on_provider_excess == "halt" and (
        acknowledged is None or acknowledged <= newest
    )
