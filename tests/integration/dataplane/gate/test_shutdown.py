"""SIGTERM while calls run: what they used is recorded by the process that made them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.dataplane import DataPlaneProcess, StartDataPlane, bearer, until
from tests.fixtures.models import ScriptedServer
from tests.fixtures.scripted_control_plane import ScriptedControlPlane


async def calls_of(plane: DataPlaneProcess, org: str) -> list[dict[str, Any]]:
    """Read as the owner, whom no tenant policy binds."""
    async with await psycopg.AsyncConnection.connect(
        plane.provisioned.owner_dsn, row_factory=dict_row
    ) as connection:
        found = await connection.execute(
            "SELECT stage, cost_nanousd, hold_nanousd FROM dataplane.intent WHERE org_id = %s",
            (org,),
        )
        return await found.fetchall()


@pytest.fixture
async def brief(
    start_data_plane: StartDataPlane, scripted_control_plane: ScriptedControlPlane
) -> DataPlaneProcess:
    known = scripted_control_plane.plane("brief")
    return await start_data_plane(
        scripted_control_plane.url,
        known.name,
        known.enrolment_token,
        environment={"TENANTPLANE_DRAIN_SECONDS": "1"},
    )


@pytest.mark.fault("F37")
async def test_what_the_drain_cuts_is_settled_before_the_process_ends(
    brief: DataPlaneProcess,
    scripted_control_plane: ScriptedControlPlane,
    scripted_model: ScriptedServer,
) -> None:
    secret = await scripted_control_plane.tenant(brief.plane, "cut-off")
    await brief.serves(secret)
    plain = {"model": "assistant-1", "messages": [{"role": "user", "content": "[[tokens:200]]"}]}
    scripted_model.app.tokens_per_second = 20
    first = asyncio.Event()

    async def stream(model: str) -> None:
        body = plain | {"model": model, "stream": True}
        request = brief.http.stream(
            "POST", "/v1/chat/completions", json=body, headers=bearer(secret)
        )
        try:
            async with request as response:
                async for _ in response.aiter_lines():
                    first.set()
        except httpx2.TransportError:
            pass  # cut, as it should be

    try:
        streams = [
            asyncio.create_task(stream(model))
            for model in ("assistant-1", "assistant-1", "agent/assistant-1")
        ]
        await first.wait()

        async def open_calls() -> int:
            return len(await calls_of(brief, "cut-off"))

        await until(open_calls, lambda made: made == len(streams))
        await brief.stop()
        await asyncio.gather(*streams)
    finally:
        scripted_model.app.tokens_per_second = None
    calls = await calls_of(brief, "cut-off")
    assert [call["stage"] for call in calls] == ["estimated"] * len(streams)
    # What came, and not the worst case.
    assert all(call["cost_nanousd"] < call["hold_nanousd"] for call in calls)
