"""Two providers, one of them in trouble: who is asked how often, who answers, and what it costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

import openai
import pytest
from pydantic import HttpUrl

from tenantplane.core.apis.snapshot import ModelGrant
from tenantplane.dataplane.api.openai import OpenAIApi
from tenantplane.dataplane.gate.asgi import Gate
from tenantplane.dataplane.gate.identity import Identity
from tenantplane.dataplane.gate.readiness import ReadinessProbe
from tenantplane.dataplane.models.providers import Providers, ProviderSettings
from tenantplane.dataplane.models.scripted import ScriptedModel
from tenantplane.dataplane.runtime.memory import Memory
from tests.fixtures.models import ScriptedServer, serving
from tests.fixtures.runtime import AgentPlane, TenantUnderTest, model_grant, until

LEAST_CALLS = 4
FIRST, SECOND = "assistant-1", "assistant-2"


def first(**changed: Any) -> ModelGrant:
    return model_grant(**({"name": FIRST, "provider": "a", "fallbacks": (SECOND,)} | changed))


def second(**changed: Any) -> ModelGrant:
    """Cheaper, so that the price tells who answered."""
    cheaper = {"input_nanousd_per_token": 100, "output_nanousd_per_token": 300}
    return model_grant(**({"name": SECOND, "provider": "b"} | cheaper | changed))


@dataclass(slots=True)
class Clock:
    """Of pauses and limits: time can be made to pass."""

    ahead_seconds: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_seconds


@dataclass(slots=True)
class Door:
    """In front of a server: who comes is counted, and waits until it is opened."""

    server: ScriptedModel
    arrived: int = 0
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.arrived += 1
        await self.opened.wait()
        await self.server(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A plane with providers `a` and `b`, each a scripted server of its own; `crowded` has few
    turns and a door in front, and `away` is not there."""

    plane: AgentPlane
    a: ScriptedModel
    b: ScriptedModel
    door: Door
    clock: Clock

    def tenant(self, *models: ModelGrant, **changed: Any) -> TenantUnderTest:
        return self.plane.tenant(models=models or (first(), second()), **changed)

    def fails(self, fault: str, times: int = 1000) -> None:
        self.a.faults = [fault] * times


@pytest.fixture
async def trouble(agent_plane: AgentPlane) -> AsyncIterator[Trouble]:
    async with AsyncExitStack() as opened:
        a, b, clock = ScriptedModel(), ScriptedModel(), Clock()
        of_a = ProviderSettings(
            base_url=HttpUrl(await opened.enter_async_context(serving(a)) + "/v1"),
            breaker_least_calls=LEAST_CALLS,
            first_byte_timeout_seconds=2.0,
            idle_timeout_seconds=0.3,
        )
        of_b = ProviderSettings(
            base_url=HttpUrl(await opened.enter_async_context(serving(b)) + "/v1")
        )
        door = Door(b)
        crowded = ProviderSettings(
            base_url=HttpUrl(await opened.enter_async_context(serving(door)) + "/v1"),
            connections=4,
            connections_per_org=2,
            queue_seconds=0.05,
        )
        # A port of the discard protocol: nobody listens there.
        away = ProviderSettings(base_url=HttpUrl("http://127.0.0.1:9/v1"), breaker_least_calls=4)
        of_all = {"a": of_a, "b": of_b, "crowded": crowded, "away": away}
        providers = Providers(of_all, clock)
        opened.push_async_callback(providers.close)
        await providers.open()
        memory = Memory(agent_plane.database, agent_plane.meter.keys)
        opened.push_async_callback(memory.stop)
        await memory.start()
        api = OpenAIApi(
            meter=agent_plane.meter,
            memory=memory,
            providers=providers,
            database=agent_plane.database,
        )
        gate = Gate(
            cast("Identity", agent_plane.callers),
            [("/v1/", api)],
            cast("ReadinessProbe", None),
            body_limit_bytes=1_000_000,
            idempotency=agent_plane.idempotency,
        )
        base_url = await opened.enter_async_context(serving(gate))
        model = ScriptedServer("", a)
        plane = replace(
            agent_plane, base_url=base_url, providers=providers, model=model, clients=[]
        )
        yield Trouble(plane, a, b, door, clock)
        for client in plane.clients:
            await client.close()


async def ask(tenant: TenantUnderTest, text: str = "Hello", model: str = FIRST) -> Any:
    return await tenant.client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": text}]
    )


async def stream(tenant: TenantUnderTest, text: str = "Hello") -> list[Any]:
    chunks = await tenant.client.chat.completions.create(
        model=FIRST, messages=[{"role": "user", "content": text}], stream=True
    )
    return [chunk async for chunk in chunks]


async def refusal(tenant: TenantUnderTest, text: str = "Hello") -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as refused:
        await ask(tenant, text)
    return refused.value


@pytest.mark.req("R55")
@pytest.mark.parametrize("streamed", [False, True])
async def test_in_an_outage_the_next_model_answers_within_its_own_price(
    trouble: Trouble, streamed: bool
) -> None:
    trouble.fails("500")
    tenant = trouble.tenant()
    if streamed:
        chunks = await stream(tenant)
        assert {chunk.model for chunk in chunks} == {SECOND}
    else:
        assert (await ask(tenant)).model == SECOND
    # One try and two repeats at the first, each with an intent and an outcome of its own.
    assert (len(trouble.a.calls), len(trouble.b.calls)) == (3, 1)
    *failed, answered = await trouble.plane.outcomes(tenant)
    assert [o["cost_nanousd"] for o in failed] == [0, 0, 0]
    assert answered["stage"] == "actual"
    used = answered["input_tokens"] * 100 + answered["output_tokens"] * 300
    assert answered["cost_nanousd"] == used > 0
    spend = await trouble.plane.spend(tenant)
    assert (spend.settled_nanousd, spend.held_nanousd) == (used, 0)


async def test_records_and_notes_name_the_attempts(trouble: Trouble) -> None:
    trouble.fails("500", times=1)
    tenant = trouble.tenant()
    raw = await tenant.client.chat.completions.with_raw_response.create(
        model="agent/" + FIRST, messages=[{"role": "user", "content": "Hello"}]
    )
    body = raw.http_response.json()
    assert body["model"] == "agent/" + FIRST
    failure = {"model": FIRST, "error": "provider_unavailable"}
    assert body["tenantplane"]["failed_attempts"] == [failure]
    assert body["tenantplane"]["answered_by"] == FIRST
    failed_id, answered_id = body["tenantplane"]["audit_records"]
    failed = await trouble.plane.record(tenant, failed_id)
    answered = await trouble.plane.record(tenant, answered_id)
    assert (failed.status, answered.status) == ("failed", "completed")
    assert isinstance(answered.request, dict)
    assert answered.request["after_failed"] == [failure]


@pytest.mark.req("R55", "R24")
async def test_nothing_answers_that_the_caller_may_not_use_itself(trouble: Trouble) -> None:
    trouble.fails("500")
    for tenant in (
        trouble.tenant(first()),
        trouble.tenant(first(), second(), scopes=frozenset({FIRST})),
    ):
        assert (await refusal(tenant)).code == "provider_unavailable"
    assert trouble.b.calls == []


@pytest.mark.req("R55")
async def test_a_flood_of_429_is_one_wave_and_then_nobody_asks(trouble: Trouble) -> None:
    trouble.fails("429")
    tenants = [trouble.tenant(first(fallbacks=())) for _ in range(4)]
    refused = await asyncio.gather(*(refusal(tenant) for tenant in tenants for _ in range(5)))
    assert {r.code for r in refused} == {"provider_rate_limited"}
    asked = len(trouble.a.calls)
    assert asked <= 20
    again = await asyncio.gather(*(refusal(tenant) for tenant in tenants for _ in range(5)))
    assert {r.response.headers["retry-after"] for r in again} <= {"6", "7"}
    assert len(trouble.a.calls) == asked
    with_a_fallback = trouble.tenant()
    assert (await ask(with_a_fallback)).model == SECOND
    another_model = trouble.tenant(first(upstream_model="large"))
    trouble.a.faults.clear()
    assert (await ask(another_model)).model == FIRST
    assert len(trouble.a.calls) == asked + 1


@pytest.mark.req("R55")
async def test_a_breaker_opens_for_its_org_alone_and_closes_after_one_trial(
    trouble: Trouble,
) -> None:
    noisy, quiet = trouble.tenant(first(fallbacks=())), trouble.tenant()
    trouble.fails("500")
    while len(trouble.a.calls) < LEAST_CALLS:
        await refusal(noisy)
    asked = len(trouble.a.calls)
    paused = await refusal(noisy)
    assert (paused.status_code, paused.code) == (503, "provider_unavailable")
    assert "retry-after" in paused.response.headers
    assert len(trouble.a.calls) == asked
    # What was refused there was never held, and is in no ledger.
    assert len(await trouble.plane.outcomes(noisy)) == asked
    trouble.a.faults.clear()
    assert (await ask(quiet)).model == FIRST
    trouble.clock.ahead_seconds += float(paused.response.headers["retry-after"])
    trouble.fails("500", times=1)
    await refusal(noisy)  # the trial fails: a new pause
    await refusal(noisy)
    assert len(trouble.a.calls) == asked + 2
    trouble.clock.ahead_seconds += 10
    for _ in range(3):
        assert (await ask(noisy)).model == FIRST
    assert len(trouble.a.calls) == asked + 5


@pytest.mark.req("R55")
async def test_an_outage_is_not_made_worse(trouble: Trouble) -> None:
    """Forty orgs, five calls each: repeats stay within the budget, whatever each call would like."""
    trouble.fails("500")
    tenants = [trouble.tenant(first(fallbacks=())) for _ in range(40)]
    for _ in range(5):
        await asyncio.gather(*(refusal(tenant) for tenant in tenants))
    assert len(trouble.a.calls) <= 200 * 1.1 + 10
    trouble.a.faults.clear()


@pytest.mark.req("R55")
async def test_no_repeat_where_the_call_may_be_billed(trouble: Trouble) -> None:
    trouble.fails("hang")
    tenant = trouble.tenant()
    assert (await refusal(tenant)).code == "provider_timeout"
    assert (len(trouble.a.calls), len(trouble.b.calls)) == (1, 0)
    (outcome,) = await trouble.plane.outcomes(tenant)
    assert outcome["stage"] == "estimated"
    assert outcome["cost_nanousd"] > 0


async def test_no_repeat_once_the_client_has_read_a_part(trouble: Trouble) -> None:
    trouble.fails("cut")
    tenant = trouble.tenant()
    with pytest.raises(openai.APIError) as broken:
        await stream(tenant, "[[tokens:60]]")
    assert broken.value.code == "provider_broken_answer"
    assert (len(trouble.a.calls), len(trouble.b.calls)) == (1, 0)


@pytest.mark.req("R55")
async def test_silence_in_mid_stream_ends_sooner_than_before_it(trouble: Trouble) -> None:
    tenant = trouble.tenant()
    trouble.a.latency_seconds = 0.6  # before the first byte: within its bound
    assert (await stream(tenant))[0].model == FIRST
    trouble.a.latency_seconds, trouble.a.tokens_per_second = 0.0, 1.0
    with pytest.raises(openai.APIError) as silent:
        await stream(tenant, "[[tokens:9]]")
    assert silent.value.code == "provider_timeout"


async def test_a_full_pool_is_waited_for_without_a_hold(trouble: Trouble) -> None:
    tenant = trouble.tenant(first(provider="crowded", fallbacks=()))
    quiet = trouble.tenant(first(provider="crowded", fallbacks=()))
    running = [asyncio.create_task(ask(tenant)) for _ in range(2)]

    async def at_work() -> bool:
        return trouble.door.arrived == 2

    await until(at_work)
    busy = await refusal(tenant)
    assert (busy.status_code, busy.code) == (503, "provider_busy")
    running.append(asyncio.create_task(ask(quiet)))

    async def quiet_at_work() -> bool:
        return trouble.door.arrived == 3

    await until(quiet_at_work)
    trouble.door.opened.set()
    await asyncio.gather(*running)
    assert len(await trouble.plane.outcomes(tenant)) == 2


async def test_without_a_connection_the_next_provider_is_asked_at_once(trouble: Trouble) -> None:
    for _ in range(4):
        tenant = trouble.tenant(first(provider="away"), second())
        assert (await ask(tenant)).model == SECOND
    last = trouble.tenant(first(provider="away"), second())
    assert (await ask(last)).model == SECOND
    # All orgs pause there by now: the last one made its one call, to the second.
    assert len(await trouble.plane.outcomes(last)) == 1


async def test_a_fallback_that_does_not_fit_under_the_cap_is_not_the_answer(
    trouble: Trouble,
) -> None:
    trouble.fails("500")
    dear = second(input_nanousd_per_token=10**7, output_nanousd_per_token=10**7)
    tenant = trouble.tenant(first(), dear, hard_cap_nanousd=10**8)
    assert (await refusal(tenant)).code == "provider_unavailable"
    assert trouble.b.calls == []
