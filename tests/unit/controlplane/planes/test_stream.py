from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from tenantplane.controlplane.planes.feed import ChangeFeed
from tenantplane.controlplane.planes.stream import EventStream, StreamTimes

FOREVER = StreamTimes(life=60, beacon_interval=60, heartbeat_interval=60)


async def _beacon() -> str:
    return "signed"


async def _never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_reader_that_stopped_reading_blocks_no_other() -> None:
    feed = ChangeFeed()
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def stuck(message: Message) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def reads(message: Message) -> None:
        if message["type"] == "http.response.body":
            heard.put_nowait(message["body"])

    streams = [
        asyncio.create_task(EventStream(feed, "p", _beacon, FOREVER)({}, _never, send))
        for send in (stuck, reads)
    ]
    assert await heard.get() == b"event: beacon\ndata: signed\n\n"
    notices: asyncio.Queue[str] = asyncio.Queue()

    async def listened() -> AsyncGenerator[str, None]:
        while True:
            yield await notices.get()

    async with feed.listening(listened()):
        for _ in range(3):
            notices.put_nowait("p")
            assert await heard.get() == b"event: changed\ndata: {}\n\n"
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)


async def test_a_client_that_leaves_ends_its_stream() -> None:
    async def left() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await EventStream(ChangeFeed(), "p", _beacon, FOREVER)({}, left, send)
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_heartbeats_come_between_beacons() -> None:
    bodies: list[bytes] = []

    async def send(message: Message) -> None:
        bodies.append(message.get("body", b""))

    times = StreamTimes(life=0.5, beacon_interval=60, heartbeat_interval=0.05)
    await EventStream(ChangeFeed(), "p", _beacon, times)({}, _never, send)
    assert bodies.count(b": heartbeat\n\n") >= 2
    assert bodies.count(b"event: beacon\ndata: signed\n\n") == 1
