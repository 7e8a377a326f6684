"""Calls of one turn of the loop share a round trip, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tenantplane.core.errors import DependencyUnavailable, InvalidInput
from tenantplane.core.valkey import encoding, keys
from tenantplane.core.valkey.answers import (
    Admitted,
    Begun,
    EpochLost,
    Installed,
    Placing,
    Settled,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.pipeline import MOST_COMMANDS
from tenantplane.core.valkey.requests import Installation, Stage
from tests.integration.core.valkey.builders import org, request

EPOCH = 3


@pytest.fixture
async def server(make_valkey: Callable[[], EmbeddedValkey]) -> EmbeddedValkey:
    return make_valkey()


@pytest.fixture
async def store(server: EmbeddedValkey) -> AsyncIterator[AdmissionStore]:
    store = AdmissionStore(server.settings)
    await store.open()
    assert await store.begin_epoch(EPOCH) == Begun()
    assert await store.install(Installation("acme", EPOCH)) == Installed()
    yield store
    await store.close()


async def test_calls_of_one_turn_leave_in_one_round_trip_and_each_gets_its_own_answer(
    store: AdmissionStore,
) -> None:
    asked = [request("acme", org(), epoch=EPOCH, hold_nanousd=n + 1) for n in range(40)]
    before = store.pipelines.sent
    held = await asyncio.gather(*map(store.admit, asked))
    assert store.pipelines.sent == before + 1
    assert [a.held_nanousd for a in held if isinstance(a, Admitted)] == list(range(1, 41))
    ended = await asyncio.gather(
        *(store.settle("acme", EPOCH, a.hold_id, Stage.ACTUAL, a.hold_nanousd) for a in asked)
    )
    assert store.pipelines.sent == before + 2
    assert ended == [Settled(a.hold_nanousd) for a in asked]


async def test_calls_of_one_root_are_one_command_and_decided_one_after_the_other(
    server: EmbeddedValkey, store: AdmissionStore
) -> None:
    under = org(hard=100)
    async with Redis.from_url(server.url) as redis:
        before = (await redis.info("commandstats")).get("cmdstat_fcall", {"calls": 0})["calls"]
        asked = [request("acme", under, epoch=EPOCH, hold_nanousd=30) for _ in range(10)]
        answers = await asyncio.gather(*map(store.admit, asked))
        after = (await redis.info("commandstats"))["cmdstat_fcall"]["calls"]
    assert after == before + 1
    assert [isinstance(answer, Admitted) for answer in answers] == [True] * 3 + [False] * 7


async def test_two_calls_of_one_hold_in_one_turn_see_each_other(store: AdmissionStore) -> None:
    asked = request("acme", org(), epoch=EPOCH, hold_nanousd=5)
    more = replace(asked, hold_nanousd=8)
    answers = await asyncio.gather(*map(store.admit, (asked, asked, more)))
    placings = [answer.placing for answer in answers if isinstance(answer, Admitted)]
    assert placings == [Placing.NEW, Placing.SAME, Placing.ENLARGED]


async def test_the_library_refuses_two_calls_of_one_hold_in_one_command(
    store: AdmissionStore,
) -> None:
    asked = request("acme", org(), epoch=EPOCH)
    root = keys.of_root("acme", EPOCH)
    hold = keys.of_hold("acme", asked.hold_id, EPOCH)
    texts = [encoding.admit_argument(asked)] * 2
    with pytest.raises(ResponseError, match="is there twice"):
        await store.pipelines.call("FCALL", "tp_admit", 5, *root, hold, hold, *texts)


async def test_a_malformed_call_takes_none_along_that_share_its_command(
    store: AdmissionStore,
) -> None:
    broken = request("acme", org(), epoch=EPOCH, tokens=424_242)
    text = encoding.admit_argument(broken)
    changed = text.replace("\n424242\n", "\n-7\n")
    answers = await asyncio.gather(
        store.admit(request("acme", org(), epoch=EPOCH)),
        store._shared("tp_admit", "acme", EPOCH, broken.hold_id, changed),
        store.admit(request("acme", org(), epoch=EPOCH)),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Admitted, InvalidInput, Admitted]


async def test_a_pipeline_is_bounded(store: AdmissionStore) -> None:
    before = store.pipelines.sent
    asked = [request("acme", org(), epoch=EPOCH) for _ in range(5 * MOST_COMMANDS + 1)]
    answers = await asyncio.gather(*map(store.admit, asked))
    assert all(isinstance(answer, Admitted) for answer in answers)
    assert store.pipelines.sent == before + 6


async def test_a_command_that_fails_fails_its_own_caller_alone(store: AdmissionStore) -> None:
    answers = await asyncio.gather(
        store.admit(request("acme", org(), epoch=EPOCH, hold_nanousd=1)),
        store.admit(request("acme", org(), epoch=EPOCH, hold_nanousd=-1)),
        store.pipelines.call("NOSUCHCOMMAND"),
        store.admit(request("acme", org(), epoch=EPOCH + 1)),
        store.admit(request("acme", org(), epoch=EPOCH, hold_nanousd=2)),
        return_exceptions=True,
    )
    kinds = [Admitted, InvalidInput, ResponseError, EpochLost, Admitted]
    assert [type(answer) for answer in answers] == kinds


async def test_a_caller_that_gives_up_takes_nobody_along(store: AdmissionStore) -> None:
    first = asyncio.create_task(store.admit(request("acme", org(), epoch=EPOCH)))
    second = asyncio.create_task(store.admit(request("acme", org(), epoch=EPOCH)))
    await asyncio.sleep(0)
    first.cancel()
    assert isinstance(await second, Admitted)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_lost_connection_fails_those_under_way_and_the_next_call_goes_on(
    server: EmbeddedValkey, store: AdmissionStore
) -> None:
    await store.admit(request("acme", org(), epoch=EPOCH))  # connected
    redis = Redis.from_url(server.url)
    try:
        # Stopped, so that the commands are under way when their connection is cut.
        await redis.client_pause(60_000)
        asked = [
            asyncio.create_task(store.admit(request("acme", org(), epoch=EPOCH))) for _ in range(5)
        ]
        done, _ = await asyncio.wait(asked, timeout=0.1)
        assert not done
        server.kill()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(answer) for answer in answers} == {DependencyUnavailable}
    finally:
        await redis.aclose()
    server.run()
    # The restarted server has no epoch: what matters is that it is asked, on a new connection.
    answer = await store.admit(request("acme", org(), epoch=EPOCH))
    assert answer == EpochLost(None)


async def test_a_server_that_does_not_answer_is_given_up_within_the_time_out(
    server: EmbeddedValkey, store: AdmissionStore
) -> None:
    impatient = AdmissionStore(server.settings.model_copy(update={"timeout_seconds": 0.2}))
    redis = Redis.from_url(server.url)
    try:
        await redis.client_pause(60_000)
        with pytest.raises(DependencyUnavailable, match="TimeoutError"):
            await impatient.admit(request("acme", org(), epoch=EPOCH))
        server.kill()
        server.run()
        assert await impatient.admit(request("acme", org(), epoch=EPOCH)) == EpochLost(None)
    finally:
        await redis.aclose()
        await impatient.close()
