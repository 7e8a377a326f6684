"""No tenant takes all sessions of a pool: slow queries of one leave some to its neighbours (R7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tenantplane.core.errors import DependencyUnavailable

_RETRY_AFTER_SECONDS = 1.0


class Shares:
    """How many sessions of a pool of `size` one org may hold at a time: all but a fifth. A pool of
    two or fewer cannot be shared out, and is not.

    An org waits for its own share at most `wait_seconds`, and before it joins the pool's queue: who
    waits here stands in nobody's way.
    """

    def __init__(self, size: int, wait_seconds: float) -> None:
        self.each = size if size <= 2 else size - max(1, size // 5)
        self._wait_seconds = wait_seconds
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, org_id: str) -> AsyncIterator[None]:
        """Raises DependencyUnavailable (`org_busy`) where the org's share did not come free."""
        # Held by whoever waits or works; an org without either leaves nothing behind.
        share = self._of.setdefault(org_id, asyncio.Semaphore(self.each))
        if share.locked():
            await self._wait(share)
        else:
            await share.acquire()  # at once
        try:
            yield
        finally:
            share.release()

    async def _wait(self, share: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._wait_seconds):
                await share.acquire()
        except TimeoutError as late:
            raise DependencyUnavailable(
                f"Your org has {self.each} requests at work in the database, as many as it may.",
                hint="Try again, with fewer at once.",
                code="org_busy",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from late
