"""Bounds of one run (limits.perRun): its calls, and its time. Its cost is a level of admission.

A plain completion is a run of one call. A run that meets a bound ends there: what it did stands,
what it used is settled, and its thread goes on at the next request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tenantplane.core.apis.snapshot import RunBounds, Snapshot
from tenantplane.core.errors import Unprocessable
from tenantplane.core.tenancy import TenantContext
from tenantplane.dataplane.gate.admission import is_the_planes
from tenantplane.dataplane.gate.periods import LONGEST_RUN

T = TypeVar("T")


@dataclass(slots=True)
class RunClock:
    """The time of a run on this replica, from when it was asked for."""

    elapsed: Callable[[], float] = time.monotonic
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.elapsed()

    def seconds(self) -> float:
        return self.elapsed() - self._began


def bounds_of(snapshot: Snapshot, tenant: TenantContext) -> RunBounds | None:
    """None where nothing bounds the caller's runs."""
    return None if is_the_planes(tenant) else snapshot.per_run


def require_room(bounds: RunBounds | None, calls_made: int, seconds: float) -> None:
    """Before each call of a run. Raises Unprocessable: step_limit_reached, run_time_reached."""
    if bounds is None:
        return
    if bounds.steps is not None and calls_made >= bounds.steps:
        raise Unprocessable(
            f"The run was halted after {calls_made} model and tool calls, the most that it may make.",
            hint="Ask for less at once, go on in the same thread, or raise limits.perRun.steps.",
            code="step_limit_reached",
            limit=bounds.steps,
        )
    longest = _longest_seconds(bounds)
    if longest is not None and seconds >= longest:
        raise _out_of_time(longest)


def each_in_time(
    items: AsyncGenerator[T, None], bounds: RunBounds | None, clock: RunClock
) -> AsyncGenerator[T, None]:
    """The items; where the run's time ends before the next one, that is halted and settled, and
    Unprocessable (run_time_reached) raised. Closing this closes `items`."""
    if bounds is None or bounds.seconds is None:
        return items
    return _each_in_time(items, bounds.seconds, clock)


def in_time(
    work: Coroutine[Any, Any, T], bounds: RunBounds | None, clock: RunClock
) -> Coroutine[Any, Any, T]:
    """The result of `work`, which is cancelled where the run's time ends before.
    Raises Unprocessable (run_time_reached)."""
    if bounds is None or bounds.seconds is None:
        return work
    return _in_time(work, bounds.seconds, clock)


async def _in_time(work: Coroutine[Any, Any, T], longest_seconds: float, clock: RunClock) -> T:
    async with _until_its_end(longest_seconds, clock):
        return await work


async def _each_in_time(
    items: AsyncGenerator[T, None], longest_seconds: float, clock: RunClock
) -> AsyncGenerator[T, None]:
    async with aclosing(items):
        while True:
            # Not around the `yield`: the time of who reads is cut by nobody here.
            async with _until_its_end(longest_seconds, clock):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item


@asynccontextmanager
async def _until_its_end(longest_seconds: float, clock: RunClock) -> AsyncGenerator[None, None]:
    waiting = asyncio.timeout(longest_seconds - clock.seconds())
    try:
        async with waiting:
            yield
    except TimeoutError:
        if not waiting.expired():
            raise  # somebody else's
        raise _out_of_time(longest_seconds) from None


def _longest_seconds(bounds: RunBounds) -> float | None:
    if bounds.seconds is not None:
        return bounds.seconds
    # Its account in the store is not kept for longer.
    return None if bounds.cost_nanousd is None else LONGEST_RUN.total_seconds()


def _out_of_time(seconds: float) -> Unprocessable:
    return Unprocessable(
        f"The run was halted after {seconds:.0f} seconds, the longest that it may take.",
        hint="Ask for less at once, go on in the same thread, or raise limits.perRun.seconds.",
        code="run_time_reached",
        limit=int(seconds),
    )
