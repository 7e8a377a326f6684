"""A fault of ours behind the tenant's API: the one answer, and nothing of the fault in it."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import APIRouter

from tenantplane.dataplane.api.tenant_api import tenant_api


async def test_an_unexpected_error_is_a_problem_without_details() -> None:
    router = APIRouter()

    @router.get("/tp/v1/broken")
    async def broken() -> None:
        raise RuntimeError("row of 'acme' with a secret")

    transport = httpx2.ASGITransport(tenant_api([router]), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://plane") as client:
        answer = await client.get("/tp/v1/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "internal"
    assert "secret" not in answer.text


async def test_the_gate_still_learns_of_it() -> None:
    router = APIRouter()

    @router.get("/tp/v1/broken")
    async def broken() -> None:
        raise RuntimeError("for the log")

    transport = httpx2.ASGITransport(tenant_api([router]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://plane") as client:
        with pytest.raises(RuntimeError, match="for the log"):
            await client.get("/tp/v1/broken")


async def test_another_path_is_not_redirected_to() -> None:
    router = APIRouter()

    @router.get("/tp/v1/served")
    async def served() -> None: ...

    transport = httpx2.ASGITransport(tenant_api([router]))
    async with httpx2.AsyncClient(transport=transport, base_url="http://plane") as client:
        answer = await client.get("/tp/v1/served/")
    assert (answer.status_code, answer.json()["code"]) == (404, "no_such_route")
