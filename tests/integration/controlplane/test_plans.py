"""Plans: rows that change tenants at once, and are not deleted under them."""

from __future__ import annotations

import pytest

from tests.fixtures.controlplane import PLAN, ControlPlaneProcess, unique


async def test_put_is_idempotent(control_plane: ControlPlaneProcess) -> None:
    name = unique("plan")
    first = (await control_plane.put_plan(name)).json()
    again = (await control_plane.put_plan(name)).json()
    assert (first["changed"], first["version"]) == (True, 1)
    assert (again["changed"], again["version"]) == (False, 1)
    assert (await control_plane.http.get(f"/v1/plans/{name}")).json()["spec"] == first["spec"]
    listed = (await control_plane.http.get("/v1/plans")).json()["items"]
    assert name in {plan["name"] for plan in listed}


@pytest.mark.req("R22")
async def test_a_change_signs_its_tenants_and_those_below_them_anew(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan, other = await control_plane.plan(), await control_plane.plan()
    umbrella = await control_plane.tenant(plan, region=region)
    below = await control_plane.tenant(other, region=region, parent=umbrella)
    aside = await control_plane.tenant(other, region=region)
    await plane.catch_up()
    limits = {**PLAN["limits"], "hardCapUSD": "25"}
    changed = await control_plane.put_plan(
        plan, entitlements={"tools": ["clock"], "models": []}, limits=limits
    )
    assert (changed.json()["version"], changed.json()["tenants"]) == (2, 1)
    brought = await plane.catch_up()
    assert set(brought) == {umbrella, below}
    assert (brought[umbrella].tools, brought[umbrella].models) == (("clock",), ())
    assert brought[umbrella].levels[0].hard_cap_nanousd == 25_000_000_000
    assert brought[below].levels[0].hard_cap_nanousd == 25_000_000_000
    assert brought[below].tools == ("clock", "notes")
    assert brought[below].version == 2
    assert (await control_plane.view(aside)).version == 1


async def test_another_name_for_people_signs_nothing_anew(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    await control_plane.plane(region)
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan, region=region)
    assert (await control_plane.put_plan(plan, displayName="Other")).json()["changed"] is True
    assert (await control_plane.view(org_id)).version == 1


async def test_a_plan_in_use_is_not_deleted(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan)
    refused = await control_plane.http.delete(f"/v1/plans/{plan}")
    assert refused.status_code == 409
    assert refused.json()["code"] == "plan_in_use"
    assert org_id in refused.json()["detail"]
    assert "another plan" in refused.json()["hint"]
    await control_plane.http.delete(f"/v1/tenants/{org_id}", params={"policy": "Retain"})
    assert (await control_plane.http.delete(f"/v1/plans/{plan}")).status_code == 204
    assert (await control_plane.http.get(f"/v1/plans/{plan}")).status_code == 404
    assert (await control_plane.http.delete(f"/v1/plans/{plan}")).status_code == 404


async def test_all_bad_fields_are_told_at_once(control_plane: ControlPlaneProcess) -> None:
    response = await control_plane.put_plan(
        "bad", limits={"requestsPerMinute": 0, "hardCapUsd": "1"}, entitlements={"tols": []}
    )
    assert response.status_code == 422
    errors = {error["path"]: error["message"] for error in response.json()["errors"]}
    assert set(errors) == {
        "limits.requestsPerMinute",
        "limits.hardCapUsd",
        "entitlements.tols",
    }
    assert "did you mean 'hardCapUSD'?" in errors["limits.hardCapUsd"]
    assert "did you mean 'tools'?" in errors["entitlements.tols"]


async def test_models_without_a_price_are_refused(control_plane: ControlPlaneProcess) -> None:
    response = await control_plane.put_plan("unpriced", entitlements={"models": ["gpt-x"]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["path"] == "entitlements.models.0"


EMBEDDER = {
    "name": "embed-local",
    "kind": "embedding",
    "dimensions": 384,
    "provider": "builtin",
    "upstreamModel": "hashing-384",
    "inputUSDPerMillionTokens": "0",
}


async def test_an_embedding_model_is_sold_and_arrives_as_one(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    prices = {"models": [*PLAN["prices"]["models"], EMBEDDER]}
    entitlements = {"models": ["assistant-1", "embed-local"]}
    plan = await control_plane.plan(entitlements=entitlements, prices=prices)
    snapshot = await plane.snapshot(await control_plane.tenant(plan, region=region))
    chat, embedding = snapshot.model_grant("assistant-1"), snapshot.model_grant("embed-local")
    assert chat is not None
    assert (chat.kind, chat.dimensions) == ("chat", None)
    assert embedding is not None
    assert (embedding.kind, embedding.dimensions) == ("embedding", 384)
    assert (embedding.provider, embedding.upstream_model) == ("builtin", "hashing-384")


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dimensions": None}, "dimensions is required"),
        ({"dimensions": 2001}, "2000"),
        ({"outputUSDPerMillionTokens": "0.60"}, "has no output"),
        ({"kind": "chat"}, "outputUSDPerMillionTokens is required"),
        ({"kind": "chat", "outputUSDPerMillionTokens": "1"}, "dimensions is for kind: embedding"),
    ],
)
async def test_offers_that_mean_nothing_are_refused(
    control_plane: ControlPlaneProcess, changed: dict[str, object], told: str
) -> None:
    offer = {key: value for key, value in (EMBEDDER | changed).items() if value is not None}
    response = await control_plane.put_plan(
        "bad-offer", entitlements={"models": []}, prices={"models": [offer]}
    )
    assert response.status_code == 422
    (error,) = response.json()["errors"]
    assert error["path"].startswith("prices.models.0")
    assert told in error["message"]


async def test_writers_are_fenced(control_plane: ControlPlaneProcess) -> None:
    name = unique("plan")
    headers = {"tenantplane-writer": "kubernetes:u1", "tenantplane-generation": "5"}
    path = f"/v1/plans/{name}"
    assert (await control_plane.http.put(path, json=PLAN, headers=headers)).status_code == 200
    older = await control_plane.http.put(
        path, json={}, headers={**headers, "tenantplane-generation": "4"}
    )
    other = await control_plane.http.put(path, json={})
    deleted = await control_plane.http.delete(path)
    assert [older.json()["code"], other.json()["code"], deleted.json()["code"]] == [
        "stale_generation",
        "other_writer",
        "other_writer",
    ]
    taken = await control_plane.http.put(path, json={}, headers={"tenantplane-take-over": "true"})
    assert taken.json()["writer"] == "cli"
