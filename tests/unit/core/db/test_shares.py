from __future__ import annotations

import asyncio
import gc
from contextlib import AsyncExitStack

import pytest

from tenantplane.core.db.shares import Shares
from tenantplane.core.errors import DependencyUnavailable


@pytest.mark.parametrize(("size", "each"), [(1, 1), (2, 2), (3, 2), (5, 4), (10, 8), (200, 160)])
def test_all_but_a_fifth(size: int, each: int) -> None:
    assert Shares(size, 1).each == each


async def test_who_has_its_share_waits_and_its_neighbour_does_not() -> None:
    shares = Shares(3, wait_seconds=60)
    async with AsyncExitStack() as held:
        for _ in range(shares.each):
            await held.enter_async_context(shares.of("noisy"))
        third = asyncio.create_task(held.enter_async_context(shares.of("noisy")))
        async with shares.of("quiet"):
            assert not third.done()
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
    async with shares.of("noisy"):
        pass  # all came back, the cancelled one too


async def test_a_share_that_does_not_come_free_is_refused_and_lost_to_nobody() -> None:
    shares = Shares(1, wait_seconds=0.01)
    async with shares.of("acme"):
        with pytest.raises(DependencyUnavailable) as refused:
            async with shares.of("acme"):
                pytest.fail("entered")
        assert refused.value.error_code == "org_busy"
        assert refused.value.retry_after_seconds is not None
    async with shares.of("acme"):
        pass


async def test_an_org_that_left_leaves_nothing_behind() -> None:
    shares = Shares(10, wait_seconds=1)
    async with shares.of("acme"):
        pass
    gc.collect()
    assert len(shares._of) == 0
