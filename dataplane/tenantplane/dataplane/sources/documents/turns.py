"""Whose turn it is: so many at once in all, and one of each org, so that none keeps the others out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tenantplane.core.errors import DependencyUnavailable

_RETRY_AFTER_SECONDS = 5.0


class Turns:
    def __init__(self, at_once: int, wait_seconds: float) -> None:
        self._at_once = asyncio.Semaphore(at_once)
        self._wait_seconds = wait_seconds
        self._of_orgs: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, org_id: str) -> AsyncIterator[None]:
        """Raises DependencyUnavailable where the turn does not come in time."""
        # An org waits at its own lock first: only then does it stand in the queue of all.
        lock = self._of_orgs.setdefault(org_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self._wait_seconds):
                await lock.acquire()
                try:
                    await self._at_once.acquire()
                except BaseException:
                    lock.release()
                    raise
        except TimeoutError:
            raise DependencyUnavailable(
                "Too many documents are being read at the moment.",
                hint="Send the document again in a few seconds.",
                code="readers_busy",
                retry_after_seconds=_RETRY_AFTER_SECONDS,
            ) from None
        try:
            yield
        finally:
            self._at_once.release()
            lock.release()
