"""Gives tenants with many chunks indexes of their own, a few chunks at a time, for ever.

chunks ≥ index_from_chunks, no shelf   → a shelf: a partition that is free, or a new one
has a shelf                            → what has arrived on the shared shelf moves there
has a shelf, chunks < half of that     → its chunks go back, the shelf is given up, then emptied

Half, so that a tenant at the border does not move to and fro. Each step is one short transaction
that leaves all chunks where searches find them: a process that dies leaves nothing to be mended,
and the next look goes on. Several replicas at once are harmless: they take turns at locks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass
from typing import Literal, LiteralString

from tenantplane.core.db.jobs import system_job
from tenantplane.core.db.pool import Database
from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.sources.vectors.settings import VectorSettings
from tenantplane.dataplane.sources.vectors.statements import statement

_log = logging.getLogger(__name__)

INDEX = system_job("vectors.index", "moves chunks of orgs past the size to indexes of their own")

Step = Literal["open", "fill", "return"]


@dataclass(frozen=True, slots=True)
class ShelfState:
    """An org that has a shelf, or chunks enough for one."""

    org_id: str
    chunks: int
    has_shelf: bool


@dataclass(frozen=True, slots=True)
class Indexed:
    """What one look did: shelves given, chunks moved there and back, shelves emptied."""

    opened: int = 0
    filled: int = 0
    returned: int = 0
    cleared: int = 0


def next_step(state: ShelfState, index_from: int) -> Step | None:
    """What is to be done for an org; None where it is to be left alone."""
    if not state.has_shelf:
        return "open" if state.chunks >= index_from else None
    return "return" if 2 * state.chunks < index_from else "fill"


class Indexer:
    """One per replica; see the module."""

    def __init__(self, database: Database, settings: VectorSettings) -> None:
        self._database = database
        self._settings = settings

    async def run(self, interval_seconds: float) -> None:
        """Looks for ever; what a dependency interrupts goes on next time."""
        while True:
            try:
                done = await self.index()
                if done != Indexed():
                    _log.info("vectors: %s", done)
            except DependencyUnavailable as gone:
                _log.warning("indexing interrupted: %s", gone.detail)
            await asyncio.sleep(interval_seconds)

    async def index(self) -> Indexed:
        """One look, until nothing is left to do; orgs take turns, a batch each.

        Raises DependencyUnavailable, after all others had their turn; what was done stays done.
        """
        tally: Counter[str] = Counter()
        trouble: DependencyUnavailable | None = None
        turns: deque[tuple[str, Step]] = deque()
        for state in await self._states():
            step = next_step(state, self._settings.index_from_chunks)
            if step is not None:
                turns.append((state.org_id, step))
        while turns:
            org_id, step = turns.popleft()
            try:
                done = await self._do(step, org_id)
            except DependencyUnavailable as waited:
                # Most likely a lock that was not to be had: this org waits for the next look.
                trouble = waited
                continue
            tally[step] += done
            if step == "open":
                turns.append((org_id, "fill"))
            elif done:
                turns.append((org_id, step))
        cleared = await self._ask(statement("clear_shelves"), "cleared", {})
        if trouble is not None:
            raise trouble
        return Indexed(tally["open"], tally["fill"], tally["return"], cleared)

    async def _states(self) -> list[ShelfState]:
        async with self._database.system_tx(INDEX) as cursor:
            values = {"index_from": self._settings.index_from_chunks}
            await cursor.execute(statement("shelf_states"), values)
            return [ShelfState(**row) for row in await cursor.fetchall()]

    async def _do(self, step: Step, org_id: str) -> int:
        """Shelves opened, or chunks moved; 0 chunks: there is nothing left to move."""
        batch = self._settings.move_batch_chunks
        if step == "open":
            await self._ask(statement("open_shelf"), "shelf", {"org_id": org_id})
            return 1
        name: LiteralString = "shelve_chunks" if step == "fill" else "unshelve_chunks"
        return await self._ask(statement(name), "moved", {"org_id": org_id, "batch": batch})

    async def _ask(self, query: LiteralString, column: str, values: dict[str, object]) -> int:
        async with self._database.system_tx(INDEX) as cursor:
            await cursor.execute(query, values)
            row = await cursor.fetchone()
        assert row is not None
        return int(row[column])
