"""The stream of server-sent events that a plane holds open (WHATWG HTML, section 9.2).

`changed` has no content: the plane fetches what is new. `beacon` carries the signed beacon, at
connect and every 15 s; a comment keeps proxies from closing the connection in between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tenantplane.controlplane.planes.feed import ChangeFeed, Subscription

_CHANGED: Final = b"event: changed\ndata: {}\n\n"
_HEARTBEAT: Final = b": heartbeat\n\n"
# How long a reader that stopped reading may delay the end of its own stream.
_LAST_WORD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """In seconds. The stream ends with the token that opened it."""

    life: float
    beacon_interval: float
    heartbeat_interval: float


class EventStream(Response):
    """Writes to one plane's replica from a task of its own, so that it alone waits where the
    reader is slow; what changes meanwhile is one event."""

    def __init__(
        self,
        feed: ChangeFeed,
        plane: str,
        beacon: Callable[[], Awaitable[str]],
        times: StreamTimes,
    ) -> None:
        super().__init__(
            media_type="text/event-stream",
            # X-Accel-Buffering: nginx would hold events back until its buffer is full.
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        del self.headers["content-length"]
        self._feed = feed
        self._plane = plane
        self._beacon = beacon
        self._times = times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._feed.subscribed(self._plane) as subscription:
            watch = asyncio.create_task(_end_on_disconnect(receive, subscription))
            try:
                async with asyncio.timeout(self._times.life):
                    await self._write(send, subscription)
            except TimeoutError:
                pass  # the token's life is over: the plane comes back with a new one
            finally:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
        async with asyncio.timeout(_LAST_WORD_SECONDS):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, send: Send, subscription: Subscription) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        next_beacon = 0.0
        while not subscription.ended:
            if time.monotonic() >= next_beacon:
                await _event(send, b"event: beacon\ndata: " + (await self._beacon()).encode())
                next_beacon = time.monotonic() + self._times.beacon_interval
            pause = min(self._times.heartbeat_interval, next_beacon - time.monotonic())
            if await subscription.wait(max(pause, 0.0)):
                await _body(send, _CHANGED)
            elif not subscription.ended:
                await _body(send, _HEARTBEAT)


async def _event(send: Send, lines: bytes) -> None:
    await _body(send, lines + b"\n\n")


async def _body(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _end_on_disconnect(receive: Receive, subscription: Subscription) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    subscription.end()
