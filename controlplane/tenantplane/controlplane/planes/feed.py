"""One listener per process tells every open stream that its plane has something to fetch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager


class Subscription:
    """One open stream. Changes that come while it is busy become one: they carry no content."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._changed = False
        self.ended = False

    def changed(self) -> None:
        self._changed = True
        self._woken.set()

    def end(self) -> None:
        self.ended = True
        self._woken.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """True where something changed since the last call, at the latest after the time-out."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        changed, self._changed = self._changed, False
        return changed


class ChangeFeed:
    """Belongs to one event loop. A slow reader holds up nobody: to wake it sets a flag."""

    def __init__(self) -> None:
        self._by_plane: dict[str, set[Subscription]] = {}
        self._listener: asyncio.Task[None] | None = None
        self._ended = False

    @property
    def is_listening(self) -> bool:
        return self._listener is not None and not self._listener.done()

    @contextmanager
    def subscribed(self, plane: str) -> Iterator[Subscription]:
        """A subscription for as long as the block runs; it has ended already after `end`."""
        subscription = Subscription()
        subscription.ended = self._ended
        subscriptions = self._by_plane.setdefault(plane, set())
        subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            subscriptions.discard(subscription)
            if not subscriptions:
                self._by_plane.pop(plane, None)

    @asynccontextmanager
    async def listening(self, notices: AsyncGenerator[str, None]) -> AsyncIterator[None]:
        """Hands on the planes that `notices` names; an empty notice is for all of them."""
        self._listener = asyncio.create_task(self._listen(notices), name="change-feed")
        try:
            yield
        finally:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)

    def end(self) -> None:
        """Ends all streams: the process is about to stop."""
        self._ended = True
        for subscription in self._all():
            subscription.end()

    async def _listen(self, notices: AsyncGenerator[str, None]) -> None:
        async with aclosing(notices):
            async for plane in notices:
                # Empty after a (re)connection: what was notified meanwhile is lost.
                woken = self._by_plane.get(plane, set()) if plane else self._all()
                for subscription in list(woken):
                    subscription.changed()

    def _all(self) -> list[Subscription]:
        return [s for subscriptions in self._by_plane.values() for s in subscriptions]
