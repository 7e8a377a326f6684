from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tenantplane.controlplane.planes.feed import ChangeFeed


async def _notices(queue: asyncio.Queue[str]) -> AsyncGenerator[str, None]:
    while True:
        yield await queue.get()


async def test_a_notice_wakes_its_own_plane() -> None:
    feed, queue = ChangeFeed(), asyncio.Queue[str]()
    async with feed.listening(_notices(queue)):
        with feed.subscribed("a") as mine, feed.subscribed("b") as other:
            queue.put_nowait("a")
            assert await mine.wait(5)
            assert not await other.wait(0)
            queue.put_nowait("")  # the listener was away: anything may have changed
            assert await mine.wait(5)
            assert await other.wait(5)


async def test_changes_that_meet_a_busy_reader_become_one() -> None:
    feed, queue = ChangeFeed(), asyncio.Queue[str]()
    async with feed.listening(_notices(queue)):
        with feed.subscribed("a") as slow, feed.subscribed("a") as quick:
            for _ in range(3):
                queue.put_nowait("a")
                assert await quick.wait(5)
            assert await slow.wait(5)
            assert not await slow.wait(0)


async def test_the_end_reaches_all_and_those_to_come() -> None:
    feed = ChangeFeed()
    with feed.subscribed("a") as open_one:
        feed.end()
        assert open_one.ended
        assert not await open_one.wait(5)
    with feed.subscribed("a") as late:
        assert late.ended


async def test_listening_is_known() -> None:
    feed = ChangeFeed()
    seen = [feed.is_listening]
    async with feed.listening(_notices(asyncio.Queue[str]())):
        seen.append(feed.is_listening)
    assert [*seen, feed.is_listening] == [False, True, False]
