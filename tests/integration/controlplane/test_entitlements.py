"""What a tenant may use, told by the very rows that its snapshot is made of."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fixtures.controlplane import PLAN, ControlPlaneProcess, unique

LISTS: dict[str, Any] = {
    "tools": ["clock", "notes", "refund"],
    "models": ["assistant-1"],
    "roleBound": [{"role": "admin", "tools": ["refund"]}],
}


async def _explain(control: ControlPlaneProcess, org_id: str, name: str, **asked: Any) -> Any:
    answer = await control.http.get(
        f"/v1/tenants/{org_id}/entitlements/explain", params={"name": name, **asked}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.req("R24")
async def test_what_is_kept_for_roles_is_signed_with_them(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan = await control_plane.plan(entitlements=LISTS)
    own = {"tools": {"deny": ["notes"]}, "roleBound": [{"role": "boss", "tools": ["refund", "x"]}]}
    org_id = await control_plane.tenant(plan, region=region, entitlements=own)
    snapshot = await plane.snapshot(org_id)
    assert snapshot.tools == ("clock", "refund")
    # Of names on the list alone, and for one of the roles that plan or tenant name.
    assert [b.model_dump() for b in snapshot.role_bound] == [
        {"kind": "tool", "name": "refund", "roles": ("admin", "boss")}
    ]
    await control_plane.put_tenant(org_id, {"plan": plan, "region": region})
    (bound,) = (await plane.snapshot(org_id)).role_bound
    assert bound.roles == ("admin",)
    await control_plane.put_plan(plan, entitlements={**LISTS, "roleBound": []})
    assert (await plane.snapshot(org_id)).role_bound == ()


@pytest.mark.req("R20")
async def test_all_that_a_tenant_may_use_is_listed(control_plane: ControlPlaneProcess) -> None:
    prompt = unique("greeting")
    await control_plane.http.put(f"/v1/catalogue/prompt/{prompt}", json={"text": "Hi."})
    plan = await control_plane.plan(
        entitlements={**LISTS, "prompts": [prompt, "nobody-wrote-it"], "dataSources": ["documents"]}
    )
    org_id = await control_plane.tenant(plan)
    view = (await control_plane.http.get(f"/v1/tenants/{org_id}/entitlements")).json()
    assert (view["plan"], view["status"]) == (plan, "active")
    assert [(i["kind"], i["name"], i.get("version"), i["roles"]) for i in view["items"]] == [
        ("tool", "clock", None, []),
        ("tool", "notes", None, []),
        ("tool", "refund", None, ["admin"]),
        ("model", "assistant-1", None, []),
        ("prompt", prompt, 1, []),
        ("data_source", "documents", None, []),
    ]


@pytest.mark.req("R20", "R24")
async def test_each_answer_names_its_rows_and_what_to_change(
    control_plane: ControlPlaneProcess,
) -> None:
    plan = await control_plane.plan(entitlements={**LISTS, "prompts": ["unwritten"]})
    own = {"tools": {"deny": ["notes"]}}
    org_id = await control_plane.tenant(plan, entitlements=own)
    granted = await _explain(control_plane, org_id, "clock")
    assert (granted["allowed"], granted["reason"]) == (True, "granted")
    assert granted["rows"] == [
        {"where": f"plan '{plan}': entitlements.tools", "effect": "allow", "name": "clock"}
        | {"roles": []}
    ]
    denied = await _explain(control_plane, org_id, "notes")
    assert (denied["allowed"], denied["reason"]) == (False, "denied")
    assert denied["rows"][0]["where"] == f"tenant '{org_id}': entitlements.tools.deny"
    misspelt = await _explain(control_plane, org_id, "refnud")
    assert (misspelt["reason"], misspelt["hint"]) == ("not_in_plan", "Did you mean 'refund'?")
    unknown = await _explain(control_plane, org_id, "refund")
    assert (unknown["allowed"], unknown["reason"]) == (False, "role_unknown")
    lacking = await _explain(control_plane, org_id, "refund", roles=["member", "guest"])
    assert (lacking["reason"], lacking["roles"]) == ("role_missing", ["member", "guest"])
    none = await _explain(control_plane, org_id, "refund", no_roles=True)
    assert (none["reason"], none["roles"]) == ("role_missing", [])
    held = await _explain(control_plane, org_id, "refund", roles=["member", "admin"])
    assert (held["allowed"], held["reason"]) == (True, "granted")
    prompt = await _explain(control_plane, org_id, "unwritten", kind="prompt")
    assert prompt["reason"] == "prompt_without_version"
    assert "tenantplane prompts put unwritten" in prompt["hint"]


@pytest.mark.req("R24")
async def test_keys_and_their_users_are_asked_for_by_their_roles(
    control_plane: ControlPlaneProcess,
) -> None:
    plan = await control_plane.plan(entitlements=LISTS)
    org_id = await control_plane.tenant(plan)
    path = f"/v1/tenants/{org_id}/keys"
    made = {}
    for name, more in (
        ("admin", {"roles": ["admin"]}),
        ("plain", {}),
        ("scoped", {"roles": ["admin"], "scopes": ["clock"]}),
    ):
        answer = await control_plane.http.post(
            path, json={"name": name, "userId": f"user-{name}", **more}
        )
        made[name] = answer.json()["keyId"]
    reasons = {
        name: (await _explain(control_plane, org_id, "refund", key_id=key_id))["reason"]
        for name, key_id in made.items()
    }
    assert reasons == {"admin": "granted", "plain": "role_missing", "scoped": "scope_missing"}
    for user, reason in (
        ("user-admin", "granted"),
        ("user-plain", "role_missing"),
        ("somebody", "role_unknown"),
    ):
        told = await _explain(control_plane, org_id, "refund", user_id=user)
        assert told["reason"] == reason
    await control_plane.http.delete(f"{path}/{made['admin']}")
    revoked = await _explain(control_plane, org_id, "refund", key_id=made["admin"])
    assert (revoked["allowed"], revoked["reason"]) == (False, "key_not_in_force")
    stranger = await control_plane.http.get(
        f"/v1/tenants/{org_id}/entitlements/explain", params={"name": "clock", "key_id": "nobody"}
    )
    assert stranger.status_code == 404


async def test_who_is_stopped_may_use_nothing(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    umbrella = await control_plane.tenant(plan)
    child = await control_plane.tenant(plan, parent=umbrella)
    await control_plane.put_tenant(umbrella, {"plan": plan, "suspended": True})
    for org_id in (umbrella, child):
        told = await _explain(control_plane, org_id, "clock")
        assert (told["allowed"], told["reason"]) == (False, "suspended")
    await control_plane.http.delete(f"/v1/tenants/{child}")
    assert (await _explain(control_plane, child, "clock"))["reason"] == "deleted"
    for path in ("", "/explain?name=clock"):
        answer = await control_plane.http.get(f"/v1/tenants/never-was/entitlements{path}")
        assert answer.status_code == 404


async def test_limits_and_prices_of_all_sorts_reach_the_snapshot(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    offer = PLAN["prices"]["models"][0]
    prices = {
        "models": [
            {**offer, "cachedInputUSDPerMillionTokens": "0.075", "fallbacks": ["second", "third"]},
            {**offer, "name": "second", "reasoningUSDPerMillionTokens": "1", "imageUSD": "0.002"},
            {**offer, "name": "third"},
        ],
        "tools": [{"name": "clock", "usdPerCall": "0.01"}],
    }
    limits = {"hardCapUSD": "9", "hardCapUSDPerDay": "2", "perUser": {"concurrentCalls": 3}}
    plan = await control_plane.plan(
        entitlements={"tools": ["clock"], "models": ["assistant-1", "second"]},
        prices=prices,
        limits=limits,
    )
    own = {"perUser": {"hardCapUSDPerDay": "1"}, "perRun": {"steps": 7}}
    org_id = await control_plane.tenant(plan, region=region, limits=own)
    snapshot = await plane.snapshot(org_id)
    first, second = snapshot.model_grant("assistant-1"), snapshot.model_grant("second")
    assert first is not None
    assert (first.cached_input_nanousd_per_token, first.fallbacks) == (75, ("second",))
    assert second is not None
    assert (second.reasoning_nanousd_per_token, second.image_nanousd) == (1000, 2_000_000)
    assert snapshot.tool_nanousd == {"clock": 10_000_000}
    assert snapshot.levels[0].day_hard_cap_nanousd == 2_000_000_000
    assert snapshot.per_user is not None
    # Field by field: the plan's calls at a time, the tenant's own cap.
    assert snapshot.per_user.concurrent_calls == 3
    assert snapshot.per_user.day_hard_cap_nanousd == 1_000_000_000
    assert snapshot.per_run is not None
    assert snapshot.per_run.steps == 7


@pytest.mark.parametrize(
    ("fallbacks", "told"),
    [
        (["assistant-1"], "no fallback of its own"),
        (["unsold"], "has no price"),
        (["embed-local"], "kind embedding"),
        (["second", "second"], "named twice"),
        (["a", "b", "c", "d", "e", "f"], "at most 5"),
    ],
    ids=["itself", "not sold", "another kind", "twice", "too many"],
)
async def test_fallbacks_that_cannot_be_are_refused(
    control_plane: ControlPlaneProcess, fallbacks: list[str], told: str
) -> None:
    offer = PLAN["prices"]["models"][0]
    embedder = {"name": "embed-local", "kind": "embedding", "dimensions": 8}
    models = [
        {**offer, "fallbacks": fallbacks},
        {**offer, "name": "second"},
        embedder | {"inputUSDPerMillionTokens": "0"},
    ]
    refused = await control_plane.put_plan(unique("plan"), prices={"models": models})
    assert refused.status_code == 422, refused.text
    assert told in refused.text


async def test_prices_that_mean_nothing_are_refused(control_plane: ControlPlaneProcess) -> None:
    twice = [{"name": "clock", "usdPerCall": "1"}] * 2
    refused = await control_plane.put_plan(
        unique("plan"), prices={**PLAN["prices"], "tools": twice}
    )
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (
        422,
        "prices.tools.1.name",
    )
    embedder = {"name": "e", "kind": "embedding", "dimensions": 8, "imageUSD": "1"}
    models = [embedder | {"inputUSDPerMillionTokens": "0"}]
    refused = await control_plane.put_plan(
        unique("plan"), entitlements={}, prices={"models": models}
    )
    assert "imageUSD are for kind: chat" in refused.text


async def test_a_name_that_is_listed_twice_is_meant_once(
    control_plane: ControlPlaneProcess,
) -> None:
    lists = {"tools": ["clock", "clock"], "roleBound": [{"role": "a", "tools": ["clock"]}] * 2}
    plan = await control_plane.plan(entitlements=lists)
    org_id = await control_plane.tenant(
        plan, entitlements={"tools": {"allow": ["notes", "notes"]}, "roleBound": []}
    )
    view = (await control_plane.http.get(f"/v1/tenants/{org_id}/entitlements")).json()
    assert [item["name"] for item in view["items"]] == ["clock", "notes"]
