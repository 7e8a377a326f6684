"""Whatever happens to the server's data or memory, nothing is admitted on what it has left."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from tenantplane.core.errors import ConfigurationRefused, DependencyUnavailable
from tenantplane.core.valkey import keys
from tenantplane.core.valkey.answers import (
    AdmitAnswer,
    Admitted,
    Begun,
    EpochLost,
    Installed,
    NotInstalled,
)
from tenantplane.core.valkey.client import AdmissionStore
from tenantplane.core.valkey.embedded import EmbeddedValkey
from tenantplane.core.valkey.requests import Installation, Stage
from tests.integration.core.valkey.builders import org, request

MakeValkey = Callable[[], EmbeddedValkey]
SPENT = request("acme", org(), epoch=5, hold_id="spent", hold_nanousd=10)


@asynccontextmanager
async def opened(server: EmbeddedValkey) -> AsyncIterator[AdmissionStore]:
    store = AdmissionStore(server.settings)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def direct(server: EmbeddedValkey) -> AsyncIterator[Redis]:
    client = Redis.from_url(server.url)
    try:
        yield client
    finally:
        await client.aclose()


async def in_use(store: AdmissionStore, epoch: int = 5) -> None:
    """Epoch 5 open, root acme installed, one hold open."""
    assert await store.begin_epoch(epoch) == Begun()
    assert await store.install(Installation("acme", epoch)) == Installed()
    assert isinstance(await store.admit(SPENT), Admitted)


async def try_admit(store: AdmissionStore, epoch: int = 5) -> AdmitAnswer:
    return await store.admit(request("acme", org(), epoch=epoch, hold_nanousd=1))


async def refused_everywhere(store: AdmissionStore, answer: EpochLost) -> None:
    """Every function that names an epoch answers alike."""
    assert await try_admit(store) == answer
    assert await store.settle("acme", 5, "spent", Stage.ACTUAL, 1) == answer
    assert await store.release("acme", 5, "spent") == answer
    assert await store.install(Installation("acme", 5)) == answer
    assert await store.expired("acme", 5) == answer
    assert await store.spend("acme", 5, [org()]) == answer


async def test_a_fresh_server_has_no_epoch(make_valkey: MakeValkey) -> None:
    async with opened(make_valkey()) as store:
        await refused_everywhere(store, EpochLost(None))


async def test_epochs_only_rise(make_valkey: MakeValkey) -> None:
    async with opened(make_valkey()) as store:
        assert await store.begin_epoch(5) == Begun()
        assert await store.begin_epoch(5) == EpochLost(5)
        assert await store.begin_epoch(4) == EpochLost(5)
        assert await store.begin_epoch(6) == Begun()
        await refused_everywhere(store, EpochLost(6))


async def test_a_new_epoch_starts_without_the_old_ones_spend_and_the_old_keys_expire(
    make_valkey: MakeValkey,
) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await store.begin_epoch(6)
        assert await try_admit(store, 6) == NotInstalled()
        await store.install(Installation("acme", 6))
        assert isinstance(await try_admit(store, 6), Admitted)
        for key in await client.keys("*"):
            assert await client.pttl(key) > 0, key


@pytest.mark.parametrize("end", [EmbeddedValkey.stop, EmbeddedValkey.kill])
async def test_a_restart_with_whole_data_loses_the_epoch(
    make_valkey: MakeValkey, end: Callable[[EmbeddedValkey], None]
) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.save()
    end(server)
    server.run()
    async with direct(server) as client:
        assert await client.exists(keys.of_hold("acme", "spent", 5)) == 1
    async with opened(server) as store:
        await refused_everywhere(store, EpochLost(None))


async def flush_all(client: Redis) -> None:
    await client.flushall()


async def evict_money(client: Redis) -> None:
    await client.delete(keys.of_root("acme", 5)[0])


async def evict_deadlines(client: Redis) -> None:
    await client.delete(keys.of_root("acme", 5)[1])


async def flush_functions(client: Redis) -> None:
    await client.function_flush()


async def test_an_epoch_that_was_lost_is_never_begun_again(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.flushall()
        assert await try_admit(store) == EpochLost(None)
        assert await store.begin_epoch(5) == EpochLost(None)
        assert await store.begin_epoch(6) == Begun()


@pytest.mark.parametrize("lose", [flush_all, evict_money, evict_deadlines, flush_functions])
async def test_lost_data_or_functions_lose_the_epoch(
    make_valkey: MakeValkey, lose: Callable[[Redis], Awaitable[None]]
) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await lose(client)
        assert await try_admit(store) == EpochLost(None)
        await refused_everywhere(store, EpochLost(None))
        await store.begin_epoch(6)
        await store.install(Installation("acme", 6))
        assert isinstance(await try_admit(store, 6), Admitted)


async def test_an_evicted_hold_loses_the_epoch_when_it_is_settled(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.delete(keys.of_hold("acme", "spent", 5))
        assert await store.settle("acme", 5, "spent", Stage.ACTUAL, 1) == EpochLost(None)


async def test_a_delayed_install_after_a_flush_does_not_bring_back_old_amounts(
    make_valkey: MakeValkey,
) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.flushall()
        assert await store.install(Installation("acme", 5)) == EpochLost(None)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < end, "the replica does not follow"
        await asyncio.sleep(0.02)


async def follow(client: Redis, primary: EmbeddedValkey) -> None:
    await client.config_set("masterauth", primary.password)
    async with direct(primary) as source:
        await source.config_set("repl-diskless-sync-delay", "0")
    await client.replicaof("127.0.0.1", primary.port)

    async def linked() -> bool:
        seen = await client.info("replication")
        return bool(seen.get("master_link_status") == "up")

    await until(linked)


@pytest.fixture
def make_primary(make_valkey: MakeValkey, free_port: Callable[[], int]) -> MakeValkey:
    def make() -> EmbeddedValkey:
        server = make_valkey()
        server.stop()
        server.port = free_port()
        server.run()
        return server

    return make


async def test_a_promoted_replica_does_not_know_the_epoch(
    make_primary: MakeValkey, make_valkey: MakeValkey
) -> None:
    primary, replica = make_primary(), make_valkey()
    async with opened(primary) as store, direct(replica) as client:
        await in_use(store)
        await follow(client, primary)

        async def has_the_hold() -> bool:
            return bool(await client.exists(keys.of_hold("acme", "spent", 5)))

        await until(has_the_hold)
        async with opened(replica) as replicated:
            with pytest.raises(DependencyUnavailable):
                await replicated.begin_epoch(6)
            with pytest.raises(DependencyUnavailable):
                await try_admit(replicated)
        await client.replicaof("NO", "ONE")
    async with opened(replica) as promoted:
        await refused_everywhere(promoted, EpochLost(None))


async def test_a_full_resynchronisation_forgets_an_epoch_begun_before(
    make_primary: MakeValkey, make_valkey: MakeValkey
) -> None:
    """A demoted primary that comes back as a replica and is promoted again."""
    primary, other = make_primary(), make_valkey()
    async with opened(primary) as store:
        await in_use(store, 5)
    async with opened(other) as store, direct(other) as client:
        assert await store.begin_epoch(5) == Begun()
        await follow(client, primary)
        await client.replicaof("NO", "ONE")
        await refused_everywhere(store, EpochLost(None))


async def test_opening_again_keeps_the_library_and_its_epoch(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    async with opened(server) as store:
        await in_use(store)
        async with opened(server) as second:
            assert isinstance(await try_admit(second), Admitted)


async def test_a_server_that_evicts_is_refused(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    async with direct(server) as client:
        await client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationRefused, match="may forget money"):
        async with opened(server):
            pass


async def test_a_full_memory_refuses_admissions_and_still_records_spend(
    make_valkey: MakeValkey,
) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.config_set("maxmemory", "1")
        with pytest.raises(DependencyUnavailable):
            await try_admit(store)
        settled = await store.settle("acme", 5, "spent", Stage.ACTUAL, 3)
        assert type(settled).__name__ == "Settled"


async def test_an_absent_server_is_a_dependency_that_is_unavailable_in_bounded_time(
    make_valkey: MakeValkey,
) -> None:
    server = make_valkey()
    async with opened(server) as store:
        await in_use(store)
        server.kill()
        began = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            await try_admit(store)
        assert time.monotonic() - began < 3


async def test_a_hanging_server_is_given_up_on(make_valkey: MakeValkey) -> None:
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.client_pause(2000, all=False)
        began = time.monotonic()
        with pytest.raises(DependencyUnavailable):
            await try_admit(store)
        assert time.monotonic() - began < 1.9
        await client.client_unpause()
        assert isinstance(await try_admit(store), Admitted)


async def test_a_password_changed_under_way_is_a_dependency_that_is_away(
    make_valkey: MakeValkey,
) -> None:
    """Callers learn nothing of the server's settings: it is theirs to wait, ours to repair."""
    server = make_valkey()
    async with opened(server) as store, direct(server) as client:
        await in_use(store)
        await client.config_set("requirepass", "another")
        await client.client_kill_filter(_type="normal", skipme=True)
        try:
            for _ in range(3):  # the cut connection, and then new ones
                with pytest.raises(DependencyUnavailable):
                    await try_admit(store)
        finally:
            await client.config_set("requirepass", server.password)
