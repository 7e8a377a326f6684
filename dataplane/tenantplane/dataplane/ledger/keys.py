"""Data keys of orgs: one each, made on first use, stored wrapped, kept open for a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from tenantplane.core.db.pool import Database, TenantCursor
from tenantplane.core.keys.envelope import DataKey, KeyProvider, new_data_key
from tenantplane.dataplane.ledger.statements import statement

# A key that its owner revokes in the KMS stops working here at the latest after this.
OPEN_SECONDS = 300.0
MAX_OPEN = 10_000


class DataKeys:
    def __init__(
        self,
        database: Database,
        provider: KeyProvider,
        *,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._provider = provider
        self._elapsed = elapsed
        self._open: OrderedDict[str, tuple[float, DataKey]] = OrderedDict()
        self._opening: dict[str, asyncio.Task[DataKey]] = {}

    def known(self, org_id: str) -> DataKey | None:
        """The org's key, where it is open already."""
        known = self._open.get(org_id)
        if known is None or self._elapsed() >= known[0]:
            return None
        self._open.move_to_end(org_id)
        return known[1]

    async def of(self, org_id: str) -> DataKey:
        """The org's key. Raises DependencyUnavailable (Postgres or KMS), Forbidden (key refused)."""
        known = self.known(org_id)
        if known is not None:
            return known
        # All that wait for a key share one question to the KMS; one that gives up ends it for none.
        opening = self._opening.get(org_id)
        if opening is None:
            opening = asyncio.create_task(self._fetch(org_id), name=f"data-key-{org_id}")
            self._opening[org_id] = opening
            opening.add_done_callback(lambda done: self._opened(org_id, done))
        return await asyncio.shield(opening)

    def _opened(self, org_id: str, done: asyncio.Task[DataKey]) -> None:
        self._opening.pop(org_id, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._open[org_id] = (self._elapsed() + OPEN_SECONDS, done.result())
        self._open.move_to_end(org_id)
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)

    async def _fetch(self, org_id: str) -> DataKey:
        async with self._database.tenant_tx(org_id) as cursor:
            wrapped = await _read(cursor)
        if wrapped is None:
            wrapped = await self._make(org_id)
        return DataKey(await self._provider.unwrap(org_id, wrapped))

    async def _make(self, org_id: str) -> bytes:
        # The KMS is asked outside of any transaction.
        offered = await self._provider.wrap(org_id, new_data_key())
        async with self._database.tenant_tx(org_id) as cursor:
            await cursor.execute(
                statement("offer_org_key"), {"org_id": org_id, "wrapped_key": offered}
            )
            standing = await _read(cursor)
        assert standing is not None, "either this key was stored, or an earlier one is there"
        return standing


async def _read(cursor: TenantCursor) -> bytes | None:
    await cursor.execute(statement("read_org_key"), {"org_id": cursor.org_id})
    row = await cursor.fetchone()
    return bytes(row["wrapped_key"]) if row else None
