"""Whose turn it is: so many at a time of one org, and so many of all, so that no org keeps the others
out (R7).

Counters of our own: with semaphores of asyncio, which look through who waits at each question, and
a table of weak references, a turn that is free cost 9 us.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tenantplane.core.errors import TenantplaneError


class _Places:
    """So many, in the order in which they are asked for: where one is free, nobody waits."""

    __slots__ = ("free", "waiting")

    def __init__(self, free: int) -> None:
        self.free = free
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        if self.free:
            self.free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # it came in the same moment
                self.give_back()
            raise

    def give_back(self) -> None:
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():  # else who waited gave up
                place.set_result(None)
                return
        self.free += 1


class Turn:
    """What was taken; given back once, however often that is said."""

    __slots__ = ("_give_back", "_org_id")

    def __init__(self, give_back: Callable[[str], None], org_id: str) -> None:
        self._give_back: Callable[[str], None] | None = give_back
        self._org_id = org_id

    def give_back(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._org_id)


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
        self._of_all = None if at_once is None else _Places(at_once)
        # Of whom somebody waits or works: an org without either leaves nothing behind.
        self._of_orgs: dict[str, _Places] = {}

    @asynccontextmanager
    async def of(self, org_id: str) -> AsyncIterator[None]:
        turn = await self.take(org_id)
        try:
            yield
        finally:
            turn.give_back()

    async def take(self, org_id: str) -> Turn:
        """A turn that is given back by hand, where its work ends elsewhere than it began."""
        return self.take_free(org_id) or await self._wait(org_id)

    def take_free(self, org_id: str) -> Turn | None:
        """A turn, where nobody has to wait for it; else None, and `take` waits."""
        of_all = self._of_all
        if of_all is not None and not of_all.free:
            return None
        own = self._own(org_id)
        if not own.free:
            return None
        own.free -= 1
        if of_all is not None:
            of_all.free -= 1
        return Turn(self._give_back, org_id)

    async def _wait(self, org_id: str) -> Turn:
        own = self._own(org_id)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await own.take()
                if self._of_all is not None:
                    try:
                        await self._of_all.take()
                    except BaseException:
                        own.give_back()
                        raise
        except BaseException as failed:
            self._forget_idle(org_id, own)
            if isinstance(failed, TimeoutError):
                raise self._busy() from failed
            raise
        return Turn(self._give_back, org_id)

    def _give_back(self, org_id: str) -> None:
        if self._of_all is not None:
            self._of_all.give_back()
        own = self._of_orgs[org_id]
        own.give_back()
        self._forget_idle(org_id, own)

    def _own(self, org_id: str) -> _Places:
        own = self._of_orgs.get(org_id)
        if own is None:
            own = self._of_orgs[org_id] = _Places(self._each)
        return own

    def _forget_idle(self, org_id: str, own: _Places) -> None:
        # Who gave up may come here late, when another table stands in its place.
        if own.free == self._each and self._of_orgs.get(org_id) is own:
            del self._of_orgs[org_id]
