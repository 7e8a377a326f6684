"""Which checkpoints are asked for, and their rows. What is not said is not asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tenantplane.core.db.pool import Database
from tenantplane.dataplane.runtime.statements import statement

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointQuery:
    """Newest first, at most `limit`: the newest of a thread where nothing else is said. Only what
    stands in clear can be asked for."""

    org_id: str
    thread_id: str | None = None  # as stored
    ns: str | None = None
    id: str | None = None
    before: str | None = None  # an id
    source: str | None = None
    step: int | None = None
    run_id: str | None = None
    # The last checkpoint of the page before.
    after_id: str | None = None
    after_thread: str | None = None
    after_ns: str | None = None
    limit: int = 1

    async def rows(self, database: Database) -> Rows:
        """Those of the checkpoints, of their values and of their tasks' writes, in any order.

        Raises DependencyUnavailable.
        """
        async with database.tenant_tx(self.org_id) as cursor:
            # A generic plan would read all of an org's checkpoints to find one thread's: it cannot
            # know which of these are asked for.
            await cursor.execute(statement("list_checkpoints"), asdict(self), prepare=False)
            return await cursor.fetchall()
