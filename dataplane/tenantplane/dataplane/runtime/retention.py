"""State past its time goes: threads that nobody touched for long, and items of the store that were
given a time to live. A job across all orgs, since each org's rows are few and their times apart."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, LiteralString

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.dataplane.runtime.settings import RuntimeSettings
from tenantplane.dataplane.runtime.statements import statement

_log = logging.getLogger(__name__)

RETENTION: Final = system_job(
    "runtime.retention", "deletes state of all orgs that is past its time, whoever's it is"
)
_SECONDS_PER_DAY: Final = 86_400.0
# Deleted in one transaction; a long conversation has thousands of rows.
_MOST: Final = 100


class Retention:
    def __init__(self, database: Database, settings: RuntimeSettings) -> None:
        self._database = database
        self._settings = settings

    async def run(self) -> None:
        """For ever. Raises DependencyUnavailable; what is left then goes the next time."""
        while True:
            threads, items = await self.sweep()
            if threads or items:
                _log.info("deleted %d threads and %d stored items past their time", threads, items)
            await asyncio.sleep(self._settings.retention_seconds)

    async def sweep(self) -> tuple[int, int]:
        """How many threads and stored items went. Safe on several replicas at once."""
        threads = 0
        if self._settings.thread_ttl_days is not None:
            seconds = self._settings.thread_ttl_days * _SECONDS_PER_DAY
            threads = await self._delete(statement("delete_expired_threads"), seconds)
        return threads, await self._delete(statement("delete_expired_items"), None)

    async def _delete(self, query: LiteralString, seconds: float | None) -> int:
        total = 0
        while True:
            async with self._database.system_tx(RETENTION) as cursor:
                await cursor.execute(query, {"seconds": seconds, "most": _MOST})
                row = await cursor.fetchone()
            assert row is not None, "a count is one row"
            gone = int(row["gone"])
            total += gone
            if gone < _MOST:
                return total
