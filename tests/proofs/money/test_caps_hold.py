"""Settled spend plus open holds never passes a hard cap (R32)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from tenantplane.core.errors import DependencyUnavailable, HardCapReached
from tenantplane.core.money import NanoUSD
from tenantplane.dataplane.ledger.calls import Usage
from tenantplane.dataplane.ledger.meter import OpenCall
from tests.fixtures.ledger import Ledger, MakeLedger, a_call, a_snapshot, a_tenant
from tests.fixtures.proofs import ProofCases


@pytest.mark.proof
@pytest.mark.fault("F35")
@pytest.mark.parametrize("replicas", [1, 3])
async def test_of_500_concurrent_calls_with_budget_for_one_exactly_one_is_admitted(
    make_ledger: MakeLedger, new_org: str, replicas: int, proof_cases: ProofCases
) -> None:
    ledger = await make_ledger()
    processes = [ledger, *[await ledger.replica() for _ in range(replicas - 1)]]
    snapshot = a_snapshot(new_org, hard_cap_nanousd=1000)

    async def attempt(number: int) -> OpenCall | None:
        process = processes[number % replicas]
        try:
            return await process.meter.open(a_tenant(new_org), snapshot, a_call(1000))
        except HardCapReached:
            return None

    calls = [call for call in await asyncio.gather(*map(attempt, range(500))) if call]

    proof_cases.add(500)
    assert len(calls) == 1
    assert await ledger.open_holds_in_postgres(new_org) == 1000
    await calls[0].complete(Usage(1, 1, NanoUSD(1000)), None)
    assert await ledger.in_valkey(snapshot) == (1000, 0)


async def flush_all(redis: Redis, ledger: Ledger) -> None:
    await redis.flushall()


async def flush_functions(redis: Redis, ledger: Ledger) -> None:
    await redis.function_flush()


async def delete_some(redis: Redis, ledger: Ledger) -> None:
    keys = [key async for key in redis.scan_iter("tp:*")]
    if keys:
        await redis.delete(*random.sample(keys, k=max(1, len(keys) // 2)))


async def kill_and_restart(redis: Redis, ledger: Ledger) -> None:
    ledger.valkey.kill()
    ledger.valkey.run()


LOSSES = {
    "FLUSHALL": flush_all,
    "FUNCTION FLUSH": flush_functions,
    "keys evicted": delete_some,
    "killed, restarted with its data": kill_and_restart,
}


@pytest.mark.proof
@pytest.mark.fault("F38")
@pytest.mark.parametrize("loss", LOSSES)
async def test_no_loss_of_valkey_under_load_passes_the_cap(
    make_ledger: MakeLedger,
    new_org: str,
    loss: str,
    proof_cases: ProofCases,
) -> None:
    ledger = await make_ledger()
    second = await ledger.replica()
    cap = 100_000
    snapshot = a_snapshot(new_org, hard_cap_nanousd=cap)
    redis = Redis.from_url(ledger.valkey.settings.url.get_secret_value())
    try:
        spent = await load_and_lose(
            [ledger, second], snapshot.org_id, cap, lambda: LOSSES[loss](redis, ledger)
        )
    finally:
        await redis.aclose()
    proof_cases.add(spent.calls)

    assert spent.calls > 0
    assert 0 < spent.highest <= cap
    assert await ledger.settled_in_postgres(new_org) == spent.cost
    assert await ledger.open_holds_in_postgres(new_org) == 0
    settled, held = await ledger.in_valkey(snapshot)
    assert (settled, held) == (spent.cost, 0)


class Spent:
    """What went through, and the highest sum of settled and held that Postgres ever showed."""

    def __init__(self) -> None:
        self.calls = self.cost = self.highest = 0


async def load_and_lose(
    processes: list[Ledger], org: str, cap: int, lose: Callable[[], Awaitable[None]]
) -> Spent:
    snapshot, spent, dice = a_snapshot(org, hard_cap_nanousd=cap), Spent(), random.Random(7)
    ended = asyncio.Event()

    async def caller(number: int) -> None:
        process = processes[number % len(processes)]
        for _ in range(12):
            hold = dice.randint(2000, 9000)
            try:
                call = await process.meter.open(a_tenant(org), snapshot, a_call(hold))
            except (HardCapReached, DependencyUnavailable):
                continue
            await asyncio.sleep(dice.random() / 50)  # the call itself
            cost = dice.randint(0, hold // 4)
            await call.complete(Usage(1, 1, NanoUSD(cost)), None)
            spent.calls, spent.cost = spent.calls + 1, spent.cost + cost

    async def watch() -> None:
        while not ended.is_set():
            rows = await processes[0].query(
                "SELECT coalesce(sum(CASE WHEN stage IS NULL THEN hold_nanousd"
                "                         ELSE cost_nanousd END), 0)::bigint AS total"
                "  FROM dataplane.intent WHERE org_id = %(org)s",
                org=org,
            )
            spent.highest = max(spent.highest, rows[0]["total"])

    async def disturb() -> None:
        while not ended.is_set():
            await asyncio.sleep(0.15)
            await lose()

    others = [asyncio.create_task(watch()), asyncio.create_task(disturb())]
    try:
        await asyncio.gather(*map(caller, range(12)))
    finally:
        ended.set()
        await asyncio.gather(*others)
    return spent


@pytest.mark.proof
@pytest.mark.fault("F38")
async def test_a_restart_with_old_data_is_rebuilt_before_anything_is_admitted(
    make_ledger: MakeLedger, new_org: str
) -> None:
    ledger = await make_ledger()
    snapshot = a_snapshot(new_org, hard_cap_nanousd=1000)
    done = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(400))
    await done.complete(Usage(1, 1, NanoUSD(300)), None)
    running = await ledger.meter.open(a_tenant(new_org), snapshot, a_call(500))

    ledger.valkey.kill()
    ledger.valkey.run()

    with pytest.raises(HardCapReached):
        await ledger.meter.open(a_tenant(new_org), snapshot, a_call(201))
    assert await ledger.in_valkey(snapshot) == (300, 500)
    await running.complete(Usage(1, 1, NanoUSD(450)), None)
    assert await ledger.in_valkey(snapshot) == (750, 0)


@pytest.mark.proof
@pytest.mark.fault("F38")
async def test_a_hold_that_was_lost_before_its_intent_is_asked_for_again(
    make_ledger: MakeLedger, new_org: str
) -> None:
    """Its budget was given away meanwhile: the epoch refuses the intent, the cap the new hold."""
    ledger = await make_ledger()
    other = await ledger.replica()
    tenant, snapshot = a_tenant(new_org), a_snapshot(new_org, hard_cap_nanousd=1000)
    held, go_on = asyncio.Event(), asyncio.Event()
    journal = ledger.meter.journal
    append = journal._intents._append

    async def append_later(connection: Any, rows: Any) -> Any:
        held.set()
        await go_on.wait()
        return await append(connection, rows)

    journal._intents._append = append_later
    slow = asyncio.create_task(ledger.meter.open(tenant, snapshot, a_call(1000)))
    await held.wait()
    redis = Redis.from_url(ledger.valkey.settings.url.get_secret_value())
    await redis.flushall()
    await redis.aclose()
    await other.meter.open(tenant, snapshot, a_call(1000))
    go_on.set()

    with pytest.raises(HardCapReached):
        await slow
    assert await ledger.open_holds_in_postgres(new_org) == 1000
    assert await ledger.in_valkey(snapshot) == (0, 1000)
