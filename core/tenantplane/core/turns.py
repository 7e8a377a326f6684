"""Whose turn it is: so many at a time of one org, and so many of all, so that no org keeps the others
out (R7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from tenantplane.core.errors import TenantplaneError


class Turn:
    """What was taken; given back once, however often that is said. `waited`: it was not free."""

    __slots__ = ("taken", "waited")

    def __init__(self) -> None:
        self.taken: list[asyncio.Semaphore] = []
        self.waited = False

    async def take(self, wanted: Iterable[asyncio.Semaphore]) -> None:
        for part in wanted:
            await part.acquire()
            self.taken.append(part)

    def give_back(self) -> None:
        while self.taken:
            self.taken.pop().release()


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
        turn = await self.take(org_id)
        try:
            yield
        finally:
            turn.give_back()

    async def take(self, org_id: str) -> Turn:
        """A turn that is given back by hand, where its work ends elsewhere than it began."""
        # Held by whoever waits or works; an org without either leaves nothing behind.
        own = self._of_orgs.get(org_id)
        if own is None:
            own = self._of_orgs[org_id] = asyncio.Semaphore(self._each)
        turn, wanted = Turn(), (own, *self._of_all)
        turn.waited = any(part.locked() for part in wanted)
        if not turn.waited:  # a timer costs more than a free turn does
            await turn.take(wanted)
            return turn
        try:
            async with asyncio.timeout(self._wait_seconds):
                await turn.take(wanted)
        except TimeoutError as late:
            turn.give_back()
            raise self._busy() from late
        except BaseException:
            turn.give_back()
            raise
        return turn
