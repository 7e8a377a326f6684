"""Tenants: registered, changed, fenced, refused, retained and purged."""

from __future__ import annotations

import asyncio

import pytest

from tests.fixtures.controlplane import PLAN, ControlPlaneProcess, unique

KUBERNETES = {"tenantplane-writer": "kubernetes:u1", "tenantplane-generation": "1"}


async def test_put_is_idempotent(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    spec: dict[str, object] = {"plan": await control_plane.plan(), "region": region}
    org_id = unique("org")
    first = (await control_plane.put_tenant(org_id, spec)).json()
    again = (await control_plane.put_tenant(org_id, spec)).json()
    assert (first["changed"], first["version"], first["plane"]) == (True, 1, plane.name)
    assert (again["changed"], again["version"]) == (False, 1)
    assert list(await plane.catch_up()) == [org_id]


async def test_the_snapshot_says_what_the_manifest_means(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(
        await control_plane.plan(
            entitlements={**PLAN["entitlements"], "dataSources": ["documents", "usage"]}
        ),
        region=region,
        timeZone="Europe/Berlin",
        maxOfflineMinutes=60,
        entitlements={
            "tools": {"allow": ["search"], "deny": ["notes"]},
            "dataSources": {"allow": ["orders"], "deny": ["usage"]},
        },
        limits={"softCapUSD": "5"},
    )
    snapshot = await plane.snapshot(org_id)
    assert snapshot.tools == ("clock", "search")
    assert snapshot.data_sources == ("documents", "orders")
    assert [m.name for m in snapshot.models] == ["assistant-1"]
    assert snapshot.models[0].input_nanousd_per_token == 150
    assert snapshot.max_offline_seconds == 3600
    (level,) = snapshot.levels
    assert (level.kind, level.id, level.time_zone) == ("org", org_id, "Europe/Berlin")
    assert (level.soft_cap_nanousd, level.hard_cap_nanousd) == (5_000_000_000, 10_000_000_000)
    assert level.requests_per_minute == 600
    assert (snapshot.plane, snapshot.region, snapshot.status) == (plane.name, region, "active")


async def test_a_plane_that_comes_later_takes_those_who_wait(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    waiting = await control_plane.view(org_id)
    assert (waiting.plane, waiting.version, waiting.applied) == (None, 0, False)
    plane = await control_plane.plane(region)
    placed = await control_plane.view(org_id)
    assert (placed.plane, placed.version) == (plane.name, 1)
    assert placed.endpoint == "http://127.0.0.1:1"


async def test_new_trees_go_to_the_plane_with_the_fewest_orgs(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    planes = {(await control_plane.plane(region)).name for _ in range(2)}
    plan = await control_plane.plan()
    roots = [await control_plane.tenant(plan, region=region) for _ in range(2)]
    assert {(await control_plane.view(root)).plane for root in roots} == planes
    for root in roots:
        child = await control_plane.tenant(plan, region=region, parent=root)
        assert (await control_plane.view(child)).plane == (await control_plane.view(root)).plane


async def test_unknown_plan(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan)
    refused = await control_plane.put_tenant(org_id, {"plan": "no-such"})
    assert refused.status_code == 409
    assert refused.json()["code"] == "unknown_plan"
    assert "Apply the plan first, or choose one of" in refused.json()["hint"]
    assert (await control_plane.view(org_id)).spec.plan == plan  # the last good state


async def test_immutable_fields(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    umbrella, org_id = await control_plane.tenant(plan), await control_plane.tenant(plan)
    refused = await control_plane.put_tenant(
        org_id, {"plan": plan, "region": "elsewhere", "parent": umbrella}
    )
    assert refused.status_code == 422
    assert refused.json()["code"] == "immutable_field"
    assert [e["path"] for e in refused.json()["errors"]] == ["region", "parent"]


async def test_dedicated_isolation_is_not_there_yet(control_plane: ControlPlaneProcess) -> None:
    refused = await control_plane.put_tenant("x", {"plan": "any", "isolation": "dedicated"})
    assert refused.status_code == 422
    assert refused.json()["code"] == "not_yet_supported"


async def test_all_bad_fields_are_told_at_once(control_plane: ControlPlaneProcess) -> None:
    refused = await control_plane.put_tenant(
        "acme",
        {
            "plan": "P",
            "limit": {},
            "timeZone": "Mars/Base",
            "identity": {
                "issuers": [{"type": "oidc", "issuer": "x", "audience": "a", "audiences": 1}]
            },
        },
    )
    assert refused.status_code == 422
    errors = {e["path"]: e["message"] for e in refused.json()["errors"]}
    assert {"plan", "limit", "timeZone", "identity.issuers.0.issuer"} <= set(errors)
    assert "did you mean 'limits'?" in errors["limit"]
    assert "did you mean 'audience'?" in errors["identity.issuers.0.audiences"]


async def test_names_are_checked(control_plane: ControlPlaneProcess) -> None:
    for name in ("Acme", "a" * 41, "-a", "a::b"):
        assert (await control_plane.put_tenant(name, {"plan": "p"})).status_code == 422


async def test_a_model_that_the_plan_cannot_sell_is_refused(
    control_plane: ControlPlaneProcess,
) -> None:
    plan = await control_plane.plan()
    refused = await control_plane.put_tenant(
        unique("org"), {"plan": plan, "entitlements": {"models": {"allow": ["gpt-x"]}}}
    )
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["path"] == "entitlements.models.allow.0"


async def test_parents(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    line = [await control_plane.tenant(plan)]
    for _ in range(3):
        line.append(await control_plane.tenant(plan, parent=line[-1]))
    assert (await control_plane.view(line[-1])).root_org_id == line[0]
    name = unique("org")
    attempts: list[tuple[dict[str, object], int, str]] = [
        ({"parent": "nobody"}, 409, "unknown_parent"),
        ({"parent": name}, 422, "unprocessable"),
        ({"parent": line[-1]}, 422, "unprocessable"),  # a fifth level
        ({"parent": line[0], "region": "elsewhere"}, 422, "unprocessable"),
    ]
    for spec, status, code in attempts:
        refused = await control_plane.put_tenant(name, {"plan": plan, **spec})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    await control_plane.put_tenant(line[0], {"plan": plan, "suspended": True})
    refused = await control_plane.put_tenant(name, {"plan": plan, "parent": line[0]})
    assert refused.json()["code"] == "parent_not_active"


async def test_a_suspended_umbrella_stops_its_tree(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan = await control_plane.plan()
    umbrella = await control_plane.tenant(plan, region=region)
    child = await control_plane.tenant(plan, region=region, parent=umbrella)
    await plane.catch_up()
    spec: dict[str, object] = {"plan": plan, "region": region}
    view = (await control_plane.put_tenant(umbrella, {**spec, "suspended": True})).json()
    assert (view["status"], view["tokenEpoch"]) == ("suspended", 2)
    stopped = await plane.catch_up()
    assert {org: s.status for org, s in stopped.items()} == {
        umbrella: "suspended",
        child: "suspended",
    }
    await control_plane.put_tenant(umbrella, spec)
    assert {s.status for s in (await plane.catch_up()).values()} == {"active"}


@pytest.mark.fault("F52")
async def test_writers_are_fenced(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    org_id, spec = unique("org"), {"plan": plan}
    headers = {**KUBERNETES, "tenantplane-generation": "7"}
    assert (await control_plane.put_tenant(org_id, spec, **headers)).status_code == 200
    past = await control_plane.put_tenant(org_id, {**spec, "suspended": True}, **KUBERNETES)
    other = await control_plane.put_tenant(org_id, {**spec, "suspended": True})
    deleted = await control_plane.http.delete(f"/v1/tenants/{org_id}", headers=KUBERNETES)
    assert [r.status_code for r in (past, other, deleted)] == [409] * 3
    assert past.json()["code"] == deleted.json()["code"] == "stale_generation"
    assert other.json()["code"] == "other_writer"
    assert "tenantplane-take-over: true" in other.json()["hint"]
    assert (await control_plane.view(org_id)).status == "active"
    taken = await control_plane.put_tenant(org_id, spec, **{"tenantplane-take-over": "true"})
    assert (taken.json()["writer"], taken.json()["generation"]) == ("cli", 8)


async def test_a_writer_must_say_who_it_is(control_plane: ControlPlaneProcess) -> None:
    for headers in (
        {"tenantplane-writer": "somebody"},
        {"tenantplane-writer": "kubernetes:u1"},
        {**KUBERNETES, "tenantplane-generation": "-1"},
        {**KUBERNETES, "tenantplane-take-over": "yes"},
    ):
        refused = await control_plane.put_tenant("acme", {"plan": "p"}, **headers)
        assert (refused.status_code, refused.json()["code"]) == (400, "writer_required")


async def test_retain_and_take_up_again(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    spec: dict[str, object] = {"plan": await control_plane.plan(), "region": region}
    org_id = unique("org")
    await control_plane.put_tenant(org_id, spec, **KUBERNETES)
    await control_plane.api_key(org_id)
    deleted = await control_plane.http.delete(f"/v1/tenants/{org_id}", headers=KUBERNETES)
    assert (deleted.json()["status"], deleted.json()["changed"]) == ("deleted", True)
    snapshot = await plane.snapshot(org_id)
    assert (snapshot.status, snapshot.api_keys, snapshot.models) == ("deleted", (), ())
    again = await control_plane.http.delete(f"/v1/tenants/{org_id}", headers=KUBERNETES)
    assert (again.status_code, again.json()["changed"]) == (200, False)
    key = await control_plane.http.post(f"/v1/tenants/{org_id}/keys", json={})
    assert key.status_code in (404, 422)
    # The object that was deleted does not come back; its successor does.
    woken = await control_plane.put_tenant(org_id, spec, **KUBERNETES)
    assert (woken.status_code, woken.json()["code"]) == (409, "stale_generation")
    anew = await control_plane.put_tenant(
        org_id, spec, **{**KUBERNETES, "tenantplane-writer": "kubernetes:u2"}
    )
    assert anew.json()["status"] == "active"
    snapshot = await plane.snapshot(org_id)
    assert (snapshot.status, len(snapshot.api_keys), snapshot.token_epoch) == ("active", 1, 2)


async def test_purge_ends_a_name(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    spec: dict[str, object] = {"plan": await control_plane.plan(), "region": region}
    org_id = unique("org")
    await control_plane.put_tenant(org_id, spec)
    await control_plane.api_key(org_id)
    await plane.catch_up()
    path = f"/v1/tenants/{org_id}"
    purged = await control_plane.http.delete(path, params={"policy": "Purge"})
    assert purged.status_code == 200
    for gone in (path, f"{path}/keys", f"{path}/usage"):
        assert (await control_plane.http.get(gone)).status_code == 404
    assert (await control_plane.http.delete(path)).status_code == 404
    assert (await plane.catch_up())[org_id].status == "deleted"  # the tombstone
    refused = await control_plane.put_tenant(org_id, spec)
    assert (refused.status_code, refused.json()["code"]) == (409, "org_id_used")


async def test_an_umbrella_is_not_deleted_over_its_orgs(
    control_plane: ControlPlaneProcess,
) -> None:
    plan = await control_plane.plan()
    umbrella = await control_plane.tenant(plan)
    child = await control_plane.tenant(plan, parent=umbrella)
    refused = await control_plane.http.delete(f"/v1/tenants/{umbrella}")
    assert (refused.status_code, refused.json()["code"]) == (409, "has_children")
    assert child in refused.json()["detail"]


async def test_lists_go_on_page_by_page(control_plane: ControlPlaneProcess) -> None:
    plan = await control_plane.plan()
    made = {await control_plane.tenant(plan) for _ in range(3)}
    seen: list[str] = []
    after = ""
    while True:
        page = (
            await control_plane.http.get("/v1/tenants", params={"after": after, "limit": 2})
        ).json()
        seen += [view["orgId"] for view in page["items"]]
        if page.get("next") is None:
            break
        after = page["next"]
    assert made <= set(seen)
    assert seen == sorted(set(seen))


async def test_one_of_many_who_create_at_once_wins(control_plane: ControlPlaneProcess) -> None:
    spec: dict[str, object] = {"plan": await control_plane.plan()}
    org_id = unique("org")
    answers = await asyncio.gather(*(control_plane.put_tenant(org_id, spec) for _ in range(8)))
    codes = {a.status_code for a in answers}
    assert codes <= {200, 409}
    assert sum(a.status_code == 200 and a.json()["changed"] for a in answers) == 1
    assert all(a.json()["code"] == "concurrent_write" for a in answers if a.status_code == 409)


async def test_plans_and_trees_that_change_at_once_agree_in_the_end(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plans = [await control_plane.plan() for _ in range(2)]
    roots = [await control_plane.tenant(plans[i % 2], region=region) for i in range(4)]
    children = [
        await control_plane.tenant(plans[(i + 1) % 2], region=region, parent=root)
        for i, root in enumerate(roots)
    ]

    async def reprice(plan: str, cap: int) -> None:
        answer = await control_plane.put_plan(plan, limits={"hardCapUSD": str(cap)})
        assert answer.status_code == 200, answer.text

    async def retool(org_id: str, index: int, **spec: object) -> None:
        wanted = {"plan": plans[index % 2], "region": region, "displayName": str(index), **spec}
        answer = await control_plane.put_tenant(org_id, wanted)
        assert answer.status_code == 200, answer.text

    await asyncio.gather(
        *(reprice(plan, cap) for cap in range(20, 26) for plan in plans),
        *(retool(root, i) for i, root in enumerate(roots)),
        *(retool(c, i + 1, parent=roots[i]) for i, c in enumerate(children)),
    )
    await asyncio.gather(*(reprice(plan, 99) for plan in plans))
    await plane.catch_up()
    for org_id in (*roots, *children):
        snapshot = await plane.snapshot(org_id)
        assert {level.hard_cap_nanousd for level in snapshot.levels} == {99_000_000_000}
