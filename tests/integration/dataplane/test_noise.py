"""A tenant far over its quota, through the running data plane: refused without asking the store,
admitted again as soon as its limit is raised, and no trouble of its neighbours (R7)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import httpx2
import pytest

from tenantplane.core.apis.snapshot import Level
from tests.fixtures.dataplane import DataPlaneProcess, ScriptedPeers, bearer

QUOTA = 5
_BODY = {"model": "assistant-1", "messages": [{"role": "user", "content": "hello"}]}


def levels(org_id: str, requests_per_minute: int) -> tuple[Level, ...]:
    return (
        Level(
            kind="org",
            id=org_id,
            hard_cap_nanousd=1_000_000_000,
            requests_per_minute=requests_per_minute,
        ),
    )


async def limited(peers: ScriptedPeers, org_id: str) -> str:
    """A tenant of that quota, and its key."""
    return await peers.tenant(org_id, levels=levels(org_id, QUOTA))


def error_code(answer: httpx2.Response) -> object:
    return answer.json()["error"]["code"]


async def use_up(data: DataPlaneProcess, secret: str) -> httpx2.Response:
    """The first refusal, which the store gave."""
    for _ in range(QUOTA):
        assert (await data.chat(secret, "hello")).status_code == 200
    refused = await data.chat(secret, "hello")
    assert refused.status_code == 429
    return refused


def access_lines(data: DataPlaneProcess, org_id: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in data.log.read_text().splitlines() if org_id in line]
    return [line for line in lines if line["logger"] == "tenantplane.access"]


@pytest.mark.req("R7")
async def test_a_known_refusal_comes_before_the_body_is_looked_at(
    scripted_plane: ScriptedPeers,
) -> None:
    data = scripted_plane.data
    secret = await limited(scripted_plane, "noisy-known")
    told = await use_up(data, secret)
    again = await data.http.post(
        "/v1/chat/completions", headers=bearer(secret), content=b"no JSON at all"
    )
    assert (again.status_code, error_code(again)) == (429, error_code(told))
    assert 1 <= int(again.headers["retry-after"]) <= 62
    assert again.json()["error"]["message"] == told.json()["error"]["message"]
    # What counts no request is served on.
    assert (await data.get("/v1/models", secret)).status_code == 200


@pytest.mark.req("R7")
async def test_a_raised_limit_is_in_force_at_once(scripted_plane: ScriptedPeers) -> None:
    data = scripted_plane.data
    secret = await limited(scripted_plane, "noisy-raised")
    await use_up(data, secret)
    await scripted_plane.control.change("noisy-raised", levels=levels("noisy-raised", 1000))
    await scripted_plane.applied()
    assert (await data.chat(secret, "hello")).status_code == 200


async def test_a_suspension_is_told_rather_than_a_full_window(
    scripted_plane: ScriptedPeers,
) -> None:
    data = scripted_plane.data
    secret = await limited(scripted_plane, "noisy-suspended")
    await use_up(data, secret)
    await scripted_plane.control.change("noisy-suspended", status="suspended")
    await scripted_plane.applied()
    refused = await data.chat(secret, "hello")
    assert (refused.status_code, error_code(refused)) == (403, "suspended")


@pytest.mark.req("R7")
async def test_a_flood_is_refused_while_the_others_are_served(
    scripted_plane: ScriptedPeers,
) -> None:
    data = scripted_plane.data
    noisy = await limited(scripted_plane, "noisy-flood")
    quiet = await scripted_plane.tenant("quiet-beside-a-flood")
    limits = httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(base_url=data.base_url, timeout=60, limits=limits) as http:

        async def ask(secret: str) -> int:
            answer = await http.post("/v1/chat/completions", json=_BODY, headers=bearer(secret))
            return answer.status_code

        flood = [asyncio.create_task(ask(noisy)) for _ in range(500)]
        served = [(await data.chat(quiet, "hello")).status_code for _ in range(10)]
        refused = Counter(await asyncio.gather(*flood))
    assert served == [200] * 10
    assert refused == {200: QUOTA, 429: 500 - QUOTA}
    # Each is in the log, one way or the other.
    assert (await data.get("/v1/models", noisy)).status_code == 200
    lines = access_lines(data, "noisy-flood")
    left_out = sum(line.get("refusals_not_logged", 0) for line in lines)
    chats = [line for line in lines if line["path"] == "/v1/chat/completions"]
    assert left_out > 0
    assert len(chats) + left_out == 500
