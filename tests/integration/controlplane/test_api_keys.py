"""Keys of machines: shown once, known by hash, gone with the next snapshot."""

from __future__ import annotations

import hashlib

import pytest

from tests.fixtures.controlplane import ControlPlaneProcess, unique


@pytest.mark.req("R15")
async def test_a_key_reaches_the_plane_as_a_hash_and_leaves_it(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    path = f"/v1/tenants/{org_id}/keys"
    body = {"name": "ci", "userId": "robot", "roles": ["admin"], "expiresInSeconds": 3600}
    created = await control_plane.http.post(path, json=body)
    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    key = created.json()
    assert key["secret"].startswith("tpk_")
    assert key["version"] == 2
    (grant,) = (await plane.snapshot(org_id)).api_keys
    assert grant.sha256_hex == hashlib.sha256(key["secret"].encode()).hexdigest()
    assert (grant.user_id, grant.roles, grant.scopes) == ("robot", ("admin",), None)
    assert grant.expires_at is not None

    listed = await control_plane.http.get(path)
    assert [k["keyId"] for k in listed.json()["items"]] == [key["keyId"]]
    assert "secret" not in listed.text
    assert grant.sha256_hex not in listed.text

    revoked = await control_plane.http.delete(f"{path}/{key['keyId']}")
    assert revoked.json()["revokedAt"] is not None
    assert (await plane.snapshot(org_id)).api_keys == ()
    again = await control_plane.http.delete(f"{path}/{key['keyId']}")
    assert again.json() == revoked.json()
    assert (await control_plane.view(org_id)).version == 3


async def test_keys_belong_to_one_tenant(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    mine, theirs = await control_plane.tenant(plan), await control_plane.tenant(plan)
    await control_plane.api_key(mine)
    key_id = (await control_plane.http.get(f"/v1/tenants/{mine}/keys")).json()["items"][0]["keyId"]
    foreign = await control_plane.http.delete(f"/v1/tenants/{theirs}/keys/{key_id}")
    assert foreign.status_code == 404
    assert (await control_plane.http.get(f"/v1/tenants/{theirs}/keys")).json()["items"] == []


async def test_refusals(control_plane: ControlPlaneProcess) -> None:
    nobody = await control_plane.http.post(
        "/v1/tenants/nobody/keys", json={"name": "n", "userId": "u"}
    )
    assert nobody.status_code == 404
    assert (await control_plane.http.get("/v1/tenants/nobody/keys")).status_code == 404
    org_id = await control_plane.tenant(await control_plane.plan())
    bad = await control_plane.http.post(
        f"/v1/tenants/{org_id}/keys", json={"name": "", "expiresInSeconds": 1}
    )
    assert bad.status_code == 422
    assert {e["path"] for e in bad.json()["errors"]} == {"name", "userId", "expiresInSeconds"}
