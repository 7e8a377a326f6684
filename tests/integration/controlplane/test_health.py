"""The service as it stands: alive, ready, found by discovery, closed to strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from tenantplane.core.identity.keyset import KeySet
from tests.fixtures.controlplane import ControlPlaneProcess, StartControlPlane


async def test_alive_and_ready(control_plane: ControlPlaneProcess) -> None:
    assert (await control_plane.http.get("/healthz")).json() == {"status": "alive"}
    assert (await control_plane.http.get("/readyz")).json() == {"status": "ready"}


async def test_discovery_leads_to_the_keys(control_plane: ControlPlaneProcess) -> None:
    found = (await control_plane.http.get("/.well-known/openid-configuration")).json()
    alias = (await control_plane.http.get("/.well-known/oauth-authorization-server")).json()
    assert found == alias
    assert found["issuer"] == control_plane.url
    assert found["token_endpoint"] == f"{control_plane.url}/oauth/token"
    keys = KeySet.from_jwks((await control_plane.http.get(found["jwks_uri"])).json())
    assert len(keys.kids) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/plans"),
        ("GET", "/v1/plans/free"),
        ("PUT", "/v1/plans/free"),
        ("DELETE", "/v1/plans/free"),
        ("GET", "/v1/tenants"),
        ("GET", "/v1/tenants/acme"),
        ("PUT", "/v1/tenants/acme"),
        ("DELETE", "/v1/tenants/acme"),
        ("GET", "/v1/tenants/acme/keys"),
        ("POST", "/v1/tenants/acme/keys"),
        ("DELETE", "/v1/tenants/acme/keys/k"),
        ("GET", "/v1/tenants/acme/usage"),
        ("GET", "/v1/planes"),
        ("PUT", "/v1/planes/shared"),
    ],
)
async def test_the_registry_takes_the_platform_key_alone(
    control_plane: ControlPlaneProcess, method: str, path: str
) -> None:
    plane = await control_plane.plane("local")
    org_id = await control_plane.tenant(await control_plane.plan())
    org_key = await control_plane.api_key(org_id)
    async with httpx2.AsyncClient(base_url=control_plane.url) as http:
        missing = await http.request(method, path)
        unknown = await http.request(method, path, headers=_bearer("tpk_nobody-has-this-one"))
        garbage = await http.request(method, path, headers=_bearer("a.b.c"))
        tenants = await http.request(method, path, headers=_bearer(org_key))
        planes = await http.request(method, path, headers=_bearer(await plane.token()))
    assert [missing.status_code, unknown.status_code, garbage.status_code] == [401] * 3
    assert missing.headers["www-authenticate"].startswith("Bearer")
    assert [tenants.status_code, planes.status_code] == [403, 403]
    assert tenants.json()["code"] == planes.json()["code"] == "platform_key_required"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/planes/self/changes"),
        ("GET", "/v1/planes/self/stream"),
        ("POST", "/v1/planes/self/usage"),
        ("POST", "/v1/planes/self/audit"),
    ],
)
async def test_plane_routes_take_plane_tokens_alone(
    control_plane: ControlPlaneProcess, method: str, path: str
) -> None:
    response = await control_plane.http.request(method, path)  # with the platform's key
    assert response.status_code == 401


async def test_a_body_beyond_the_limit_is_refused(control_plane: ControlPlaneProcess) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100_000

    announced = await control_plane.http.put("/v1/plans/big", content=b" " * 2_000_000)
    streamed = await control_plane.http.put("/v1/plans/big", content=chunks())
    for response in (announced, streamed):
        assert response.status_code == 413
        assert response.json()["code"] == "body_too_large"


async def test_unknown_routes_and_bad_json_are_problems(
    control_plane: ControlPlaneProcess,
) -> None:
    unknown = await control_plane.http.get("/v1/nothing")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    malformed = await control_plane.http.put(
        "/v1/plans/p", content=b"{", headers={"content-type": "application/json"}
    )
    assert malformed.status_code == 400
    assert malformed.json()["detail"] == "The body is not JSON."


async def test_a_value_that_no_column_holds_is_the_callers_fault(
    control_plane: ControlPlaneProcess,
) -> None:
    response = await control_plane.put_plan("nul", displayName="a\0b")
    assert response.status_code == 422
    assert response.json()["code"] == "value_cannot_be_stored"


async def test_a_restart_keeps_keys_and_tenants_and_ends_open_streams(
    start_control_plane: StartControlPlane,
) -> None:
    control = await start_control_plane()
    plane = await control.plane("local")
    org_id = await control.tenant(await control.plan())
    signed_before = await plane.snapshot(org_id)
    async with plane.events() as events:
        assert (await anext(events))[0] == "beacon"
        assert await control.stop() == 0
        rest = [name async for name, _ in events]
    assert "changed" not in rest
    await control.start()
    assert await plane.snapshot(org_id) == signed_before  # with the keys of before


async def test_another_master_key_is_refused_at_start(
    start_control_plane: StartControlPlane,
) -> None:
    control = await start_control_plane()
    await control.stop()
    with pytest.raises(pytest.fail.Exception, match="master key does not open"):
        await control.start(TENANTPLANE_MASTER_KEY="0123456789abcdef" * 4)
    assert "Traceback" not in control.log.read_text()
    control.process = None


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
