"""What the agents of a plane remember: checkpoints of their threads, and items across threads."""

from __future__ import annotations

from tenantplane.core.db.pool import Database
from tenantplane.dataplane.ledger.keys import DataKeys
from tenantplane.dataplane.runtime.checkpoint_journal import CheckpointJournal
from tenantplane.dataplane.runtime.checkpointer import METADATA_KEYS, TenantSaver
from tenantplane.dataplane.runtime.store import TenantStore


class Memory:
    """Shared by all requests of a process; the database must be open. One org's saver or store is
    made for each request, so that none exists without its tenant."""

    def __init__(self, database: Database, keys: DataKeys) -> None:
        self._database = database
        self._keys = keys
        self._journal = CheckpointJournal(database)

    async def start(self) -> None:
        """Starts the group commit of checkpoints; safe to call again."""
        await self._journal.start()

    async def stop(self) -> None:
        """Runs that still write get DependencyUnavailable."""
        await self._journal.stop()

    def saver(self, org_id: str, *, metadata_keys: frozenset[str] = METADATA_KEYS) -> TenantSaver:
        """Raises Forbidden (`tenant_forgotten`) for no org."""
        return TenantSaver(
            self._database, self._keys, self._journal, org_id, metadata_keys=metadata_keys
        )

    def store(self, org_id: str) -> TenantStore:
        """Raises Forbidden (`tenant_forgotten`) for no org."""
        return TenantStore(self._database, self._keys, org_id)
