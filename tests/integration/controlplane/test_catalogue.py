"""Prompts in versions: in force at once for those who may use them, and for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import psycopg
import pytest

from tenantplane.core.db.embedded import EmbeddedPostgres
from tests.fixtures.controlplane import PLAN, ControlPlaneProcess, unique


async def _put(control: ControlPlaneProcess, name: str, text: str, **more: str) -> httpx2.Response:
    return await control.http.put(f"/v1/catalogue/prompt/{name}", json={"text": text, **more})


async def _plan(control: ControlPlaneProcess, *prompts: str, **more: object) -> str:
    return await control.plan(
        entitlements={**PLAN["entitlements"], "prompts": list(prompts), **more}
    )


@pytest.mark.req("R20", "R22")
async def test_a_changed_prompt_signs_its_users_anew_and_nobody_else(
    control_plane: ControlPlaneProcess,
) -> None:
    region, name = unique("region"), unique("support/greeting")
    plane = await control_plane.plane(region)
    first = (await _put(control_plane, name, "Be kind.")).json()
    assert (first["version"], first["changed"], first["signed"]) == (1, True, 0)
    plan = await _plan(control_plane, name)
    user = await control_plane.tenant(plan, region=region)
    pinned = await control_plane.tenant(
        plan, region=region, entitlements={"prompts": {"allow": [f"{name}@1"]}}
    )
    denied = await control_plane.tenant(
        plan, region=region, entitlements={"prompts": {"deny": [name]}}
    )
    other = await control_plane.tenant(await control_plane.plan(), region=region)
    brought = await plane.catch_up()
    assert brought[user].prompts == brought[pinned].prompts
    assert [(p.name, p.version, p.text) for p in brought[user].prompts] == [(name, 1, "Be kind.")]
    assert brought[denied].prompts == brought[other].prompts == ()

    second = (await _put(control_plane, name, "Be brief.")).json()
    assert (second["version"], second["signed"]) == (2, 1)
    brought = await plane.catch_up()
    assert [(p.version, p.text) for p in brought[user].prompts] == [(2, "Be brief.")]
    assert set(brought) == {user}

    path = f"/v1/catalogue/prompt/{name}"
    withdrawn = (await control_plane.http.delete(path, params={"version": 2})).json()
    assert (withdrawn["version"], withdrawn["changed"]) == (1, True)
    assert [p.version for p in (await plane.snapshot(user)).prompts] == [1]
    again = (await control_plane.http.delete(path, params={"version": 2})).json()
    assert again["changed"] is False
    # Its number is not used again.
    assert (await _put(control_plane, name, "Be brief.")).json()["version"] == 3
    gone = (await control_plane.http.delete(path)).json()
    assert gone.get("version") is None
    for org_id in (user, pinned):
        assert (await plane.snapshot(org_id)).prompts == ()


async def test_the_same_text_is_no_new_version(control_plane: ControlPlaneProcess) -> None:
    name = unique("greeting")
    await _put(control_plane, name, "Hi.", description="one")
    same = (await _put(control_plane, name, "Hi.", description="one")).json()
    assert (same["version"], same["changed"]) == (1, False)
    assert (await _put(control_plane, name, "Hi.", description="two")).json()["version"] == 2
    entry = (await control_plane.http.get(f"/v1/catalogue/prompt/{name}")).json()
    assert [v["version"] for v in entry["versions"]] == [2, 1]
    assert {v["createdBy"] for v in entry["versions"]} == {"platform:bootstrap"}
    listed = (await control_plane.http.get("/v1/catalogue", params={"kind": "prompt"})).json()
    (item,) = [item for item in listed["items"] if item["name"] == name]
    assert (item["version"], item["description"], item.get("text")) == (2, "two", None)


async def test_other_kinds_are_described_and_have_no_text(
    control_plane: ControlPlaneProcess,
) -> None:
    name = unique("search")
    path = f"/v1/catalogue/tool/{name}"
    made = await control_plane.http.put(path, json={"description": "Finds things."})
    assert (made.status_code, made.json()["version"]) == (200, 1)
    refused = await control_plane.http.put(path, json={"text": "Hi."})
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "text")
    missing = await control_plane.http.put(f"/v1/catalogue/prompt/{name}", json={})
    assert (missing.status_code, missing.json()["errors"][0]["path"]) == (422, "text")
    for method in ("GET", "DELETE"):
        absent = await control_plane.http.request(method, f"/v1/catalogue/model/{name}")
        assert (absent.status_code, absent.json()["code"]) == (404, "not_found")
    unknown = await control_plane.http.get(f"/v1/catalogue/gadget/{name}")
    assert unknown.status_code == 422


@pytest.mark.parametrize(
    ("text", "told"),
    [("é" * 32_769, "65538 bytes"), ("", "at least 1"), ("a\0b", "NUL")],
    ids=["too long", "empty", "nul"],
)
async def test_texts_that_cannot_be_are_refused(
    control_plane: ControlPlaneProcess, text: str, told: str
) -> None:
    refused = await _put(control_plane, unique("bad"), text)
    assert refused.status_code == 422
    assert told in refused.text


async def test_prompts_that_do_not_fit_into_a_snapshot_change_nothing(
    control_plane: ControlPlaneProcess,
) -> None:
    region, stem = unique("region"), unique("long")
    plane = await control_plane.plane(region)
    names = [f"{stem}-{number}" for number in range(5)]
    for name in names[:4]:
        await _put(control_plane, name, name + "x" * (65_536 - len(name)))
    await _put(control_plane, names[4], "short" * 10)
    four = await _plan(control_plane, *names[:4])
    org_id = await control_plane.tenant(four, region=region)
    refused = await control_plane.put_plan(four, entitlements={"prompts": names})
    assert (refused.status_code, refused.json()["code"]) == (422, "prompts_too_large")
    assert org_id in refused.json()["detail"]
    assert "Shorten them" in refused.json()["hint"]
    assert len((await plane.snapshot(org_id)).prompts) == 4
    assert (await control_plane.view(org_id)).version == 1


async def _until_somebody_waits(holder: psycopg.AsyncConnection[Any], dsn: str) -> None:
    """For the lock that the holder's transaction has."""
    query = "SELECT count(*) FROM pg_locks WHERE %s = ANY(pg_blocking_pids(pid))"
    async with (
        asyncio.timeout(10),
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as looking,
    ):
        while True:
            cursor = await looking.execute(query, (holder.info.backend_pid,))
            if await cursor.fetchone() != (0,):
                return
            await asyncio.sleep(0.02)


@pytest.fixture
def admin_dsn(control_plane: ControlPlaneProcess, postgres: EmbeddedPostgres) -> str:
    return postgres.admin_dsn(control_plane.provisioned.bootstrapped.dbname)


async def test_a_prompts_writer_waits_for_those_who_change_lists(
    control_plane: ControlPlaneProcess, admin_dsn: str
) -> None:
    """Whoever is being allowed the prompt gets its new version too."""
    region, name = unique("region"), unique("greeting")
    await control_plane.plane(region)
    await _put(control_plane, name, "version 1")
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    async with await psycopg.AsyncConnection.connect(admin_dsn) as holder:
        await holder.execute("SELECT FROM controlplane.catalogue_turn FOR SHARE")
        await holder.execute(
            "INSERT INTO controlplane.org_entitlement (org_id, kind, name, effect)"
            " VALUES (%s, 'prompt', %s, 'allow')",
            (org_id, name),
        )
        writing = asyncio.create_task(_put(control_plane, name, "version 2"))
        await _until_somebody_waits(holder, admin_dsn)
    assert (await writing).json()["signed"] == 1


@pytest.mark.parametrize("what", ["tenant", "plan"])
async def test_those_who_change_lists_wait_for_a_prompts_writer(
    control_plane: ControlPlaneProcess, admin_dsn: str, what: str
) -> None:
    plan = await control_plane.plan()
    async with await psycopg.AsyncConnection.connect(admin_dsn) as holder:
        await holder.execute("SELECT FROM controlplane.catalogue_turn FOR UPDATE")
        write = (
            control_plane.put_tenant(unique("org"), {"plan": plan})
            if what == "tenant"
            else control_plane.put_plan(plan, displayName="Other")
        )
        writing = asyncio.create_task(write)
        await _until_somebody_waits(holder, admin_dsn)
        assert not writing.done()
    assert (await writing).status_code == 200


async def test_prompts_and_lists_that_change_at_once_agree_in_the_end(
    control_plane: ControlPlaneProcess,
) -> None:
    region, stem = unique("region"), unique("race")
    plane = await control_plane.plane(region)
    names = [f"{stem}-{number}" for number in range(3)]
    for name in names:
        await _put(control_plane, name, "version 1")
    plans = [await _plan(control_plane) for _ in range(2)]

    async def write(index: int) -> str:
        org_id, plan = f"{stem}-{index}", plans[index % 2]
        spec: dict[str, Any] = {"plan": plan, "region": region}
        lists = {"prompts": {"allow": [names[index % 3]]}}
        answer = await control_plane.put_tenant(org_id, {**spec, "entitlements": lists})
        assert answer.status_code == 200, answer.text
        return org_id

    async def rewrite(name: str, number: int) -> None:
        answer = await _put(control_plane, name, f"version {number}")
        assert answer.status_code == 200, answer.text

    async def relist(plan: str, chosen: list[str]) -> None:
        answer = await control_plane.put_plan(plan, entitlements={"prompts": chosen})
        assert answer.status_code == 200, answer.text

    await asyncio.gather(
        *(write(index) for index in range(12)),
        *(rewrite(name, number) for number in range(2, 6) for name in names),
        *(relist(plan, names[: number % 4]) for number in range(4) for plan in plans),
    )
    newest = {
        name: (await control_plane.http.get(f"/v1/catalogue/prompt/{name}")).json()["version"]
        for name in names
    }
    assert set(newest.values()) == {5}
    for index in range(12):
        granted = (await plane.snapshot(f"{stem}-{index}")).prompts
        assert names[index % 3] in {prompt.name for prompt in granted}
        assert {prompt.version for prompt in granted} == {5}
