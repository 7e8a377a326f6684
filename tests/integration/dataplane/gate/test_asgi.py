"""The gate's own answers: ids, bounds, shapes of errors and health."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fixtures.dataplane import ScriptedPeers, bearer


@pytest.fixture
async def secret(scripted_plane: ScriptedPeers) -> str:
    org_id = "bounded"
    if org_id not in scripted_plane.control.snapshots:
        return await scripted_plane.tenant(org_id)
    return await scripted_plane.tenant(f"{org_id}-{len(scripted_plane.control.snapshots)}")


async def test_each_answer_carries_the_requests_id(
    scripted_plane: ScriptedPeers, secret: str
) -> None:
    http = scripted_plane.data.http
    mine = {"x-request-id": "my-request.1"}
    assert (await http.get("/healthz", headers=mine)).headers["x-request-id"] == "my-request.1"
    refused = await http.get("/v1/models", headers=mine)
    assert (refused.status_code, refused.headers["x-request-id"]) == (401, "my-request.1")
    hostile = {"x-request-id": 'x" injected="1'}
    served = await http.get("/v1/models", headers=bearer(secret) | hostile)
    assert "injected" not in served.headers["x-request-id"]


async def test_a_large_body_is_refused_with_and_without_its_length(
    scripted_plane: ScriptedPeers, secret: str
) -> None:
    size = 5 * 1024 * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b"x" * 65536

    http = scripted_plane.data.http
    for content in (b"x" * size, pieces()):
        refused = await http.post("/v1/chat/completions", headers=bearer(secret), content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "body_too_large")


async def test_errors_have_the_shape_of_their_api(
    scripted_plane: ScriptedPeers, secret: str
) -> None:
    data = scripted_plane.data
    openai = await data.get("/v1/nothing", secret)
    assert (openai.status_code, openai.headers["content-type"]) == (404, "application/json")
    assert openai.json()["error"]["type"] == "not_found_error"
    for path in ("/tp/v1/nothing", "/nothing", "/"):
        problem = await data.get(path, secret)
        assert (problem.status_code, problem.json()["code"]) == (404, "no_such_route")
        assert problem.headers["content-type"] == "application/problem+json"
    invalid = await data.get("/tp/v1/audit-records/not-a-uuid", secret)
    assert (invalid.status_code, invalid.json()["errors"][0]["path"]) == (400, "path.record_id")
    method = await data.http.post("/tp/v1/spend", headers=bearer(secret))
    assert (method.status_code, method.json()["code"]) == (400, "method_not_allowed")


async def test_nothing_but_health_is_open(scripted_plane: ScriptedPeers) -> None:
    http = scripted_plane.data.http
    ready = await http.get("/readyz")
    assert ready.status_code == 200
    checks = ready.json()["checks"]
    assert (checks["postgres"], checks["valkey"], checks["entitlements"]) == ("ok", "ok", "ok")
    assert checks["task:peering"] == "running"
    for path in ("/docs", "/openapi.json", "/tp/v1/spend", "/v1/models", "/healthz/", "/nothing"):
        assert (await http.get(path)).status_code == 401, path


@pytest.mark.req("R43")
async def test_no_credential_reaches_the_log(scripted_plane: ScriptedPeers, secret: str) -> None:
    data, control = scripted_plane.data, scripted_plane.control
    token = control.mint("bounded", aud="elsewhere")
    assert (await data.get("/v1/models", token)).status_code == 401
    assert (await data.get("/v1/models", secret + "x")).status_code == 401
    log = data.log.read_text()
    assert "refused with 401" in log
    for hidden in (
        secret,
        token,
        scripted_plane.known.enrolment_token,
        data.environment["TENANTPLANE_MASTER_KEY"],
    ):
        assert hidden not in log
