"""Kept answers past their time go: content is not held for longer than it is of use."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)

EXPIRE: Final = system_job(
    "ledger.requests", "deletes kept answers of all orgs that are past their time"
)
# Deleted in one transaction.
_MOST: Final = 500


class RequestRetention:
    def __init__(self, database: Database, interval_seconds: float) -> None:
        self._database = database
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """For ever; what a dependency interrupts goes the next time."""
        while True:
            try:
                gone = await self.sweep()
                if gone:
                    _log.info("deleted %d kept answers past their time", gone)
            except DependencyUnavailable as away:
                _log.warning("kept answers stay for now: %s", away.detail)
            await asyncio.sleep(self._interval_seconds)

    async def sweep(self) -> int:
        """How many went. Safe on several replicas at once. Raises DependencyUnavailable."""
        total = 0
        while True:
            async with self._database.system_tx(EXPIRE) as cursor:
                await cursor.execute(statement("delete_expired_requests"), {"most": _MOST})
                row = await cursor.fetchone()
            assert row is not None, "a count is one row"
            total += int(row["gone"])
            if row["gone"] < _MOST:
                return total
