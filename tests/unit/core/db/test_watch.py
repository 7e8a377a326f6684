"""The watch's decisions, over a catalogue that says what the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from tenantplane.core.apis.planes import (
    ISOLATION_NOT_VERIFIED,
    MOST_FINDINGS,
    IsolationReport,
)
from tenantplane.core.db.doctor import Finding
from tenantplane.core.db.watch import IsolationWatch
from tenantplane.core.errors import DependencyUnavailable

REFUSAL = Finding("refuse", "dataplane.thread", "has no forced row-level security")
WARNING = Finding("warn", "dataplane.thread", "index i does not begin with org_id")


class Scripted:
    """Answers `looks` in order, the last one for ever; `away` is a server that does not answer."""

    def __init__(self, *looks: Sequence[Finding]) -> None:
        self.looks = list(looks)
        self.away = False
        self.shape = "1"
        self.looked = 0

    async def findings(self) -> Sequence[Finding]:
        self._answer()
        self.looked += 1
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def fingerprint(self) -> str:
        self._answer()
        return self.shape

    def _answer(self) -> None:
        if self.away:
            raise DependencyUnavailable("away")


class Reader:
    """Hears reports, or is away."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[IsolationReport] = asyncio.Queue()
        self.away = 0

    async def tell(self, report: IsolationReport) -> None:
        if self.away:
            self.away -= 1
            raise DependencyUnavailable("not enrolled yet")
        await self.reports.put(report)


@asynccontextmanager
async def running(watch: IsolationWatch, reader: Reader) -> AsyncIterator[None]:
    task = asyncio.create_task(watch.run(reader.tell))
    async with asyncio.timeout(10):
        yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refusal_stands_until_a_look_finds_none() -> None:
    catalogue = Scripted([REFUSAL])
    watch = IsolationWatch(catalogue, 60)
    watch.require()
    report = await watch.check()
    assert (report.refusals, report.warnings) == (1, 0)
    with pytest.raises(DependencyUnavailable) as refused:
        watch.require()
    assert refused.value.error_code == ISOLATION_NOT_VERIFIED
    assert refused.value.retry_after_seconds
    assert "thread" not in str(refused.value)  # anybody may read it
    with pytest.raises(DependencyUnavailable):
        await watch.probe()
    catalogue.looks = [[WARNING]]
    assert (await watch.check()).warnings == 1
    watch.require()


async def test_what_a_second_look_does_not_find_was_a_change_on_its_way() -> None:
    watch = IsolationWatch(Scripted([REFUSAL], []), 60)
    assert (await watch.check()).refusals == 0
    watch.require()


async def test_a_server_that_is_away_lifts_nothing() -> None:
    catalogue = Scripted([REFUSAL])
    watch = IsolationWatch(catalogue, 60)
    await watch.check()
    catalogue.away, catalogue.looks = True, [[]]
    with pytest.raises(DependencyUnavailable):
        await watch.check()
    with pytest.raises(DependencyUnavailable):
        watch.require()


async def test_a_report_is_bounded_and_begins_with_the_refusals() -> None:
    many = [Finding("warn", "s" * 999, "m" * 999)] * 200
    report = await IsolationWatch(Scripted([*many, REFUSAL]), 60).check()
    assert (report.refusals, report.warnings, len(report.findings)) == (1, 200, MOST_FINDINGS)
    assert report.findings[0].subject == REFUSAL.subject
    assert len(report.findings[1].subject) < 999


async def test_a_change_of_the_catalogue_is_looked_at_long_before_the_interval() -> None:
    catalogue, reader = Scripted([]), Reader()
    watch = IsolationWatch(catalogue, 3600, change_seconds=0.001)
    async with running(watch, reader):
        assert (await reader.reports.get()).refusals == 0
        looked = catalogue.looked
        catalogue.looks, catalogue.shape = [[REFUSAL]], "2"
        assert (await reader.reports.get()).refusals == 1
        assert watch.refused == (REFUSAL,)
    assert looked == 1  # nothing changed before: nothing was looked at


async def test_it_is_told_again_to_a_reader_that_was_away_and_after_the_server_was() -> None:
    catalogue, reader = Scripted([]), Reader()
    reader.away = 2
    watch = IsolationWatch(catalogue, 0.001)
    async with running(watch, reader):
        await reader.reports.get()
        catalogue.away = True
        while not reader.reports.empty():
            reader.reports.get_nowait()
        catalogue.away = False
        await reader.reports.get()
