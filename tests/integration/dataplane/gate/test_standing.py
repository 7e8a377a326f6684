"""A run that goes on is asked again, at each of its calls, whether it still may: through the running
data plane."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fixtures.dataplane import ScriptedPeers, until
from tests.fixtures.models import ScriptedServer

# A loop of this many calls would take half a minute: whatever ends it earlier is the change.
STEP_SECONDS = 0.5


@pytest.fixture
async def slow_model(scripted_model: ScriptedServer) -> AsyncIterator[ScriptedServer]:
    scripted_model.app.latency_seconds = STEP_SECONDS
    yield scripted_model
    scripted_model.app.latency_seconds = 0.0


async def a_run_under_way(
    peers: ScriptedPeers, model: ScriptedServer, secret: str
) -> asyncio.Task[httpx2.Response]:
    before = len(model.app.calls)
    running = asyncio.create_task(
        peers.data.chat(secret, "[[loop]]", model="agent/assistant-1", max_tokens=20)
    )

    async def calls() -> int:
        return len(model.app.calls) - before

    await until(calls, lambda made: made >= 2)
    return running


@pytest.mark.req("R16")
async def test_a_suspension_halts_a_run_at_its_next_call(
    scripted_plane: ScriptedPeers, slow_model: ScriptedServer
) -> None:
    secret = await scripted_plane.tenant("halted-tenant")
    running = await a_run_under_way(scripted_plane, slow_model, secret)
    await scripted_plane.control.change("halted-tenant", status="suspended")
    answer = await asyncio.wait_for(running, 10 * STEP_SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "suspended")
    # What ran before is on record.
    assert answer.headers["x-tenantplane-audit-records"].count(",") >= 2


@pytest.mark.req("R16")
async def test_a_revoked_key_halts_its_run_at_the_next_call(
    scripted_plane: ScriptedPeers, slow_model: ScriptedServer
) -> None:
    secret = await scripted_plane.tenant("halted-key")
    running = await a_run_under_way(scripted_plane, slow_model, secret)
    await scripted_plane.control.change("halted-key", api_keys=())
    answer = await asyncio.wait_for(running, 10 * STEP_SECONDS)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "api_key_revoked")


async def test_a_run_goes_on_when_another_request_has_brought_a_newer_version(
    scripted_plane: ScriptedPeers, slow_model: ScriptedServer
) -> None:
    """Its own version is refused by the store from then on; the one in force is not."""
    secret = await scripted_plane.tenant("renewed-tenant")
    running = await a_run_under_way(scripted_plane, slow_model, secret)
    await scripted_plane.control.change("renewed-tenant", price_book_version=2)
    await scripted_plane.applied()
    assert (await scripted_plane.data.chat(secret, "hello")).status_code == 200
    slow_model.app.latency_seconds = 0.0
    answer = await asyncio.wait_for(running, 60)
    assert answer.json()["error"]["code"] == "step_limit_reached"
