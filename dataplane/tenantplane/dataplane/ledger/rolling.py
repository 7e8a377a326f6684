"""The roll: settled amounts summed up per account, so that an install reads no month of calls.

A roll takes the outcomes of all transactions that are over, adds them to the sums of their accounts
and moves the cursor, in one transaction: whoever dies meanwhile has done nothing, and whoever rolls
again finds nothing twice. What came after the cursor is read beside the sums.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.ledger.statements import statement

_log = logging.getLogger(__name__)

ROLL: Final = system_job("ledger.roll", "sums up what all orgs settled, in order of transactions")

# Rows of one transaction: some tens of milliseconds, in which an install waits.
BATCH: Final = 5_000
ROLL_SECONDS: Final = 10.0
# A period that ended this long ago on the database's clock is over on Valkey's too.
PERIOD_GRACE: Final = timedelta(days=1)


class Roller:
    """One per replica; the cursor's lock makes several of them take turns."""

    def __init__(self, database: Database, *, batch: int = BATCH) -> None:
        self._database = database
        self._batch = batch

    async def run(self, interval_seconds: float = ROLL_SECONDS) -> None:
        """Rolls for ever; what a dependency interrupts is rolled next time."""
        while True:
            try:
                await self.roll()
            except DependencyUnavailable as gone:
                _log.warning("roll interrupted: %s", gone.detail)
            await asyncio.sleep(interval_seconds)

    async def roll(self) -> int:
        """Rolls all that can be; how many rows that were. Raises DependencyUnavailable."""
        rolled = 0
        while True:
            step = await self._step()
            rolled += step
            if step < self._batch:
                await self._drop_ended()
                return rolled

    async def _step(self) -> int:
        async with self._database.system_tx(ROLL) as cursor:
            # A statement of its own: the next one's snapshot is of after whoever rolled before.
            await cursor.execute(statement("lock_roll_cursor"))
            position = await cursor.fetchone()
            assert position is not None
            await cursor.execute(statement("roll"), {**position, "limit": self._batch})
            row = await cursor.fetchone()
        assert row is not None
        return int(row["rolled"])

    async def _drop_ended(self) -> None:
        ended_before = self._database.clock.now() - PERIOD_GRACE
        async with self._database.system_tx(ROLL) as cursor:
            await cursor.execute(
                statement("drop_ended_rolls"), {"ended_before_unix": int(ended_before.timestamp())}
            )
