from __future__ import annotations

import asyncio

import pytest

from tenantplane.core.errors import DependencyUnavailable
from tenantplane.core.turns import Turns


def _turns(each: int, at_once: int | None = None, wait_seconds: float = 60) -> Turns:
    return Turns(each=each, at_once=at_once, wait_seconds=wait_seconds, busy=_busy)


def _busy() -> DependencyUnavailable:
    return DependencyUnavailable("All are at work.", code="all_busy", retry_after_seconds=1)


@pytest.mark.parametrize(("at_once", "others_at_work"), [(None, 3), (2, 1), (3, 2)])
async def test_so_many_of_one_org_and_so_many_of_all(
    at_once: int | None, others_at_work: int
) -> None:
    turns = _turns(each=1, at_once=at_once)
    at_work: list[str] = []
    go_on = asyncio.Event()

    async def work(org_id: str) -> None:
        async with turns.of(org_id):
            at_work.append(org_id)
            await go_on.wait()

    flood = [asyncio.create_task(work("noisy")) for _ in range(5)]
    await asyncio.sleep(0)
    quiet = [asyncio.create_task(work(f"quiet-{n}")) for n in range(3)]
    for _ in range(10):
        await asyncio.sleep(0)
    assert at_work == ["noisy", *(f"quiet-{n}" for n in range(others_at_work))]
    go_on.set()
    await asyncio.gather(*flood, *quiet)
    assert len(at_work) == 8


@pytest.mark.parametrize("each", [1, 2, 5])
async def test_who_has_its_turns_waits_and_its_neighbour_does_not(each: int) -> None:
    turns = _turns(each)
    held = [turns.of("noisy") for _ in range(each)]
    for turn in held:
        await turn.__aenter__()
    waiting = asyncio.create_task(turns.of("noisy").__aenter__())
    async with turns.of("quiet"):
        assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    for turn in held:
        await turn.__aexit__(None, None, None)
    async with turns.of("noisy"):
        pass  # all came back, the cancelled one too


async def test_a_turn_that_does_not_come_is_refused_and_lost_to_nobody() -> None:
    turns = _turns(each=1, at_once=1, wait_seconds=0.01)
    async with turns.of("a"):
        for org_id in ("a", "b"):
            with pytest.raises(DependencyUnavailable) as refused:
                async with turns.of(org_id):
                    pytest.fail("there was no turn")
            assert refused.value.error_code == "all_busy"
    for org_id in ("a", "b"):
        async with turns.of(org_id):
            pass


async def test_a_turn_is_given_back_when_its_work_fails() -> None:
    turns = _turns(each=1, at_once=1)
    with pytest.raises(ZeroDivisionError):
        async with turns.of("a"):
            raise ZeroDivisionError
    async with turns.of("a"):
        pass


async def test_an_org_that_left_leaves_nothing_behind() -> None:
    turns = _turns(each=10)
    async with turns.of("acme"):
        assert len(turns._of_orgs) == 1
    assert len(turns._of_orgs) == 0


@pytest.mark.parametrize("at_once", [None, 1, 2])
async def test_a_turn_taken_by_hand_is_free_or_waited_for_and_comes_back_once(
    at_once: int | None,
) -> None:
    turns = _turns(each=1, at_once=at_once)
    first = turns.take_free("a")
    assert first is not None
    assert turns.take_free("a") is None
    waiting = asyncio.create_task(turns.take("a"))
    await asyncio.sleep(0)
    first.give_back()
    first.give_back()
    assert turns.take_free("a") is None  # who waits is first
    second = await waiting
    third = asyncio.create_task(turns.take("a"))
    await asyncio.sleep(0)
    assert not third.done()
    second.give_back()
    (await third).give_back()


@pytest.mark.parametrize("at_once", [None, 1])
async def test_a_turn_that_comes_as_its_waiter_gives_up_is_lost_to_nobody(
    at_once: int | None,
) -> None:
    turns = _turns(each=1, at_once=at_once)
    held = await turns.take("a")
    gives_up = asyncio.create_task(turns.take("a"))
    waits = asyncio.create_task(turns.take("a"))
    await asyncio.sleep(0)
    held.give_back()
    gives_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gives_up
    (await waits).give_back()
    assert len(turns._of_orgs) == 0
    free = turns.take_free("a")
    assert free is not None
