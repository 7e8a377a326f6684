"""Bounds of a run: calls and time, before each call and in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import pytest

from tenantplane.core.apis.snapshot import RunBounds
from tenantplane.core.errors import Unprocessable
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.periods import LONGEST_RUN
from tenantplane.dataplane.gate.run_bounds import (
    RunClock,
    bounds_of,
    each_in_time,
    in_time,
    require_room,
)
from tests.fixtures.ledger import a_snapshot

WEEK = LONGEST_RUN / timedelta(seconds=1)


@pytest.mark.parametrize(
    ("bounds", "calls", "seconds", "code"),
    [
        (None, 10**6, 10**9, None),
        (RunBounds(), 10**6, 10**9, None),
        (RunBounds(steps=3), 2, 0, None),
        (RunBounds(steps=3), 3, 0, "step_limit_reached"),
        (RunBounds(seconds=60), 0, 59.9, None),
        (RunBounds(seconds=60), 0, 60, "run_time_reached"),
        (RunBounds(cost_nanousd=5), 0, WEEK - 1, None),
        (RunBounds(cost_nanousd=5), 0, WEEK, "run_time_reached"),
    ],
    ids=str,
)
def test_a_call_is_made_within_the_bounds_alone(
    bounds: RunBounds | None, calls: int, seconds: float, code: str | None
) -> None:
    if code is None:
        require_room(bounds, calls, seconds)
        return
    with pytest.raises(Unprocessable) as refused:
        require_room(bounds, calls, seconds)
    assert refused.value.error_code == code


def test_what_the_plane_does_of_itself_is_no_run() -> None:
    snapshot = a_snapshot("acme").model_copy(update={"per_run": RunBounds(steps=1)})
    user = TenantContext("acme", "acme", "user:u", "u", "pro", "r")
    plane = TenantContext("acme", "acme", "system:re-embedding", "system", "pro", "r")
    assert bounds_of(snapshot, user) == RunBounds(steps=1)
    assert bounds_of(snapshot, plane) is None


def ending_at(seconds: float) -> RunClock:
    """A clock of a run that has used so many seconds."""
    times = iter([0.0])
    return RunClock(lambda: next(times, seconds))


class Work:
    """Two items, and then one that never comes."""

    def __init__(self) -> None:
        self.ended = False

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
            await asyncio.Event().wait()
        finally:
            self.ended = True


async def test_a_run_that_is_out_of_time_is_ended_before_it_is_refused() -> None:
    work = Work()
    items = each_in_time(work.items(), RunBounds(seconds=60), ending_at(59.95))
    assert (await anext(items), await anext(items)) == (1, 2)
    with pytest.raises(Unprocessable) as refused:
        await anext(items)
    assert refused.value.error_code == "run_time_reached"
    assert work.ended


async def test_who_stops_reading_ends_the_work() -> None:
    work = Work()
    items = each_in_time(work.items(), RunBounds(seconds=60), ending_at(0))
    assert await anext(items) == 1
    await items.aclose()
    assert work.ended


async def test_without_a_bound_nothing_stands_between() -> None:
    items = Work().items()
    assert each_in_time(items, RunBounds(steps=1), RunClock()) is items
    await items.aclose()


async def test_the_works_own_time_out_stays_its_own() -> None:
    async def fails() -> int:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await in_time(fails(), RunBounds(seconds=60), ending_at(0))


async def test_one_answer_is_waited_for_no_longer_than_the_run_may_last() -> None:
    async def never() -> int:
        await asyncio.Event().wait()
        return 1

    with pytest.raises(Unprocessable) as refused:
        await in_time(never(), RunBounds(seconds=60), ending_at(59.95))
    assert refused.value.error_code == "run_time_reached"
