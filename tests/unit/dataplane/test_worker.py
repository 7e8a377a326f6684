"""A background task that fails is started again, said to be in trouble, and takes nobody with it."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tenantplane.core.errors import DependencyUnavailable
from tenantplane.dataplane import worker
from tenantplane.dataplane.worker import Worker


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(worker, "_LONGEST_PAUSE_SECONDS", 0.001)


async def test_failing_and_ending_jobs_are_started_again(caplog: pytest.LogCaptureFixture) -> None:
    runs: list[str] = []
    steady, thrice = asyncio.Event(), asyncio.Event()

    async def unsteady() -> None:
        runs.append("run")
        if len(runs) == 1:
            raise DependencyUnavailable("away")
        if len(runs) == 2:
            raise ZeroDivisionError
        if len(runs) == 4:
            thrice.set()
            await asyncio.Event().wait()

    async def good() -> None:
        steady.set()
        await asyncio.Event().wait()

    running = Worker({"unsteady": unsteady, "good": good})
    with caplog.at_level(logging.WARNING):
        running.start()
        await asyncio.wait_for(asyncio.gather(steady.wait(), thrice.wait()), 5)
    assert running.states["unsteady"].restarts == 3
    assert running.states["unsteady"].trouble is None
    assert running.states["good"].restarts == 0
    assert "ZeroDivisionError" in caplog.text
    await running.stop()


async def test_stop_waits_for_the_jobs_clean_up() -> None:
    began, cleaned = asyncio.Event(), asyncio.Event()

    async def job() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    running = Worker({"job": job})
    running.start()
    await began.wait()
    await running.stop()
    assert cleaned.is_set()
