"""Whose turn it is: so many at a time of one org, and so many of all, so that no org keeps the others
out (R7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tenantplane.core.errors import TenantplaneError


class Turns:
    """`each` at a time of one org and, where it is given, `at_once` of all.

    An org waits for its own turn first: who waits there stands in nobody's way. All waiting
    together is bounded by `wait_seconds`; then what `busy` makes is raised.
    """

    def __init__(
        self,
        *,
        each: int,
        wait_seconds: float,
        busy: Callable[[], TenantplaneError],
        at_once: int | None = None,
    ) -> None:
        self._each = each
        self._wait_seconds = wait_seconds
        self._busy = busy
        self._of_all = () if at_once is None else (asyncio.Semaphore(at_once),)
        self._of_orgs: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, org_id: str) -> AsyncIterator[None]:
        # Held by whoever waits or works; an org without either leaves nothing behind.
        own = self._of_orgs.setdefault(org_id, asyncio.Semaphore(self._each))
        wanted = (own, *self._of_all)
        taken: list[asyncio.Semaphore] = []
        try:
            await self._take(wanted, taken)
            yield
        finally:
            for turn in taken:
                turn.release()

    async def _take(
        self, wanted: tuple[asyncio.Semaphore, ...], taken: list[asyncio.Semaphore]
    ) -> None:
        # A timer costs more than a free turn does.
        bound = self._wait_seconds if any(turn.locked() for turn in wanted) else None
        try:
            async with asyncio.timeout(bound):
                for turn in wanted:
                    await turn.acquire()
                    taken.append(turn)
        except TimeoutError as late:
            raise self._busy() from late
