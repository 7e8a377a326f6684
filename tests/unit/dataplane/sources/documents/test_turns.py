from __future__ import annotations

import asyncio

import pytest

from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane.sources.documents.turns import Turns


async def test_one_of_each_org_and_so_many_in_all() -> None:
    turns = Turns(2, wait_seconds=5)
    at_work: list[str] = []
    go_on = asyncio.Event()

    async def work(org_id: str) -> None:
        async with turns.of(org_id):
            at_work.append(org_id)
            await go_on.wait()

    flood = [asyncio.create_task(work("noisy")) for _ in range(5)]
    await asyncio.sleep(0)
    quiet = asyncio.create_task(work("quiet"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert at_work == ["noisy", "quiet"]
    go_on.set()
    await asyncio.gather(*flood, quiet)
    assert len(at_work) == 6


async def test_a_turn_that_does_not_come_is_a_503_and_leaves_nothing_taken() -> None:
    turns = Turns(1, wait_seconds=0.01)
    async with turns.of("a"):
        for org_id in ("a", "b"):
            with pytest.raises(DependencyUnavailable) as refused:
                async with turns.of(org_id):
                    pytest.fail("there was no turn")
            assert refused.value.error_code == "readers_busy"
    async with turns.of("a"), Turns(1, wait_seconds=1).of("b"):
        pass
    async with turns.of("b"):
        pass


async def test_a_turn_is_given_back_when_its_work_fails() -> None:
    turns = Turns(1, wait_seconds=1)
    with pytest.raises(ZeroDivisionError):
        async with turns.of("a"):
            raise ZeroDivisionError
    async with turns.of("a"):
        pass
