"""Raises and top-ups: on every level below at once, for a time, and recorded."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.fixtures.controlplane import ControlPlaneProcess, unique

DAY = timedelta(days=1)


async def _raise(control: ControlPlaneProcess, org_id: str, **request: Any) -> Any:
    answer = await control.http.post(
        f"/v1/tenants/{org_id}/raises", json={"extraUSD": "5", **request}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _events(control: ControlPlaneProcess, org_id: str) -> list[dict[str, Any]]:
    async with await psycopg.AsyncConnection.connect(
        control.provisioned.owner_dsn, row_factory=dict_row
    ) as owner:
        cursor = await owner.execute(
            "SELECT actor, action, before, after FROM controlplane.admin_event"
            " WHERE org_id = %s ORDER BY event_id",
            (org_id,),
        )
        return await cursor.fetchall()


@pytest.mark.req("R22", "R31")
async def test_a_raise_stands_on_its_level_in_all_snapshots_below(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    plan = await control_plane.plan()
    umbrella = await control_plane.tenant(plan, region=region)
    child = await control_plane.tenant(plan, region=region, parent=umbrella)
    aside = await control_plane.tenant(plan, region=region)
    await plane.catch_up()
    ends = (datetime.now(UTC) + DAY).replace(microsecond=0)
    made = await _raise(control_plane, umbrella, extraUSD="12.50", endsAt=ends.isoformat())
    assert (made["state"], made["extraUSD"], made["version"]) == ("in force", "12.50", 2)
    brought = await plane.catch_up()
    assert set(brought) == {umbrella, child}
    for snapshot in brought.values():
        (raised,) = snapshot.levels[0].raises
        assert (raised.raise_id, raised.period) == (made["raiseId"], "month")
        assert (raised.extra_nanousd, raised.ends_at) == (12_500_000_000, ends)
    assert brought[child].levels[1].raises == ()
    assert (await control_plane.view(aside)).version == 1

    ended = await control_plane.http.delete(f"/v1/tenants/{umbrella}/raises/{made['raiseId']}")
    assert (ended.json()["state"], ended.json()["version"]) == ("ended", 3)
    assert {s.levels[0].raises for s in (await plane.catch_up()).values()} == {()}
    again = await control_plane.http.delete(f"/v1/tenants/{umbrella}/raises/{made['raiseId']}")
    assert (again.status_code, again.json()["version"]) == (200, 3)


async def test_a_top_up_ends_with_the_tenants_own_month(
    control_plane: ControlPlaneProcess,
) -> None:
    region, zone = unique("region"), "Pacific/Auckland"
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region, timeZone=zone)
    made = await _raise(control_plane, org_id)
    (raised,) = (await plane.snapshot(org_id)).levels[0].raises
    ends = raised.ends_at
    async with await psycopg.AsyncConnection.connect(
        control_plane.provisioned.owner_dsn
    ) as connection:
        cursor = await connection.execute(
            "SELECT (date_trunc('month', now() AT TIME ZONE %(zone)s) + interval '1 month')"
            " AT TIME ZONE %(zone)s",
            {"zone": zone},
        )
        row = await cursor.fetchone()
    assert row == (ends,)
    listed = (await control_plane.http.get(f"/v1/tenants/{org_id}/raises")).json()["items"]
    assert [(r["raiseId"], r["createdBy"]) for r in listed] == [
        (made["raiseId"], "platform:bootstrap")
    ]


async def test_raises_that_are_over_leave_with_the_next_snapshot_and_those_to_come_stay(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    now = datetime.now(UTC)
    soon = await _raise(control_plane, org_id, endsAt=(now + timedelta(seconds=1)).isoformat())
    coming = await _raise(
        control_plane, org_id, beginsAt=(now + DAY).isoformat(), endsAt=(now + 2 * DAY).isoformat()
    )
    assert (soon["state"], coming["state"]) == ("in force", "coming")
    async with asyncio.timeout(10):
        while True:
            listed = (await control_plane.http.get(f"/v1/tenants/{org_id}/raises")).json()["items"]
            if listed[0]["state"] == "over":
                break
            await asyncio.sleep(0.05)
    await control_plane.api_key(org_id)  # anything that signs anew
    (left,) = (await plane.snapshot(org_id)).levels[0].raises
    assert left.raise_id == coming["raiseId"]


async def test_who_did_it_is_recorded_with_what_it_was_before(
    control_plane: ControlPlaneProcess,
) -> None:
    org_id = await control_plane.tenant(await control_plane.plan())
    made = await _raise(control_plane, org_id)
    await control_plane.http.delete(f"/v1/tenants/{org_id}/raises/{made['raiseId']}")
    await control_plane.http.delete(f"/v1/tenants/{org_id}/raises/{made['raiseId']}")
    await control_plane.http.post(f"/v1/tenants/{org_id}/excess/acknowledge")
    created, ended, acknowledged = await _events(control_plane, org_id)
    assert {e["actor"] for e in (created, ended, acknowledged)} == {"platform:bootstrap"}
    assert (created["action"], created["before"]) == ("raise.create", None)
    assert created["after"]["extraUSD"] == "5.00"
    assert (ended["action"], ended["before"]["state"], ended["after"]["state"]) == (
        "raise.end",
        "in force",
        "ended",
    )
    assert (acknowledged["action"], acknowledged["before"]) == (
        "excess.acknowledge",
        {"until": None},
    )
    # It outlives the tenant.
    await control_plane.http.delete(f"/v1/tenants/{org_id}", params={"policy": "Purge"})
    assert len(await _events(control_plane, org_id)) == 3


@pytest.mark.req("R32")
async def test_an_acknowledged_excess_is_in_the_snapshot(
    control_plane: ControlPlaneProcess,
) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    assert (await plane.snapshot(org_id)).excess_acknowledged_until is None
    times = []
    for version in (2, 3):
        answer = await control_plane.http.post(f"/v1/tenants/{org_id}/excess/acknowledge")
        assert (answer.status_code, answer.json()["version"]) == (200, version)
        until = datetime.fromisoformat(answer.json()["excessAcknowledgedUntil"])
        assert (await plane.snapshot(org_id)).excess_acknowledged_until == until
        times.append(until)
    assert times[0] < times[1]
    # A new manifest does not take it back.
    view = await control_plane.view(org_id)
    spec = view.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    await control_plane.put_tenant(org_id, {**spec, "displayName": "Other", "suspended": True})
    assert (await plane.snapshot(org_id)).excess_acknowledged_until == times[1]


async def test_what_cannot_be_raised_is_refused(control_plane: ControlPlaneProcess) -> None:
    org_id = await control_plane.tenant(await control_plane.plan())
    path = f"/v1/tenants/{org_id}/raises"
    for request, code in (
        ({"extraUSD": "0"}, "invalid_fields"),
        ({"extraUSD": "5", "period": "day"}, "no_cap_to_raise"),
        ({"extraUSD": "9000000"}, "cap_too_high"),
        ({"extraUSD": "5", "endsAt": "2020-01-01T00:00:00Z"}, "invalid_fields"),
        ({"extraUSD": "5", "endsAt": "2099-01-01T00:00:00"}, "invalid_fields"),
        ({"extraUsd": "5"}, "invalid_fields"),
    ):
        refused = await control_plane.http.post(path, json=request)
        assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    for answer in (
        await control_plane.http.delete(f"{path}/{uuid4()}"),
        await control_plane.http.post("/v1/tenants/never-was/raises", json={"extraUSD": "5"}),
        await control_plane.http.get("/v1/tenants/never-was/raises"),
        await control_plane.http.post("/v1/tenants/never-was/excess/acknowledge"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await _events(control_plane, org_id) == []


async def test_raises_at_once_are_all_there(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(await control_plane.plan(), region=region)
    made = await asyncio.gather(*(_raise(control_plane, org_id) for _ in range(8)))
    standing = (await plane.snapshot(org_id)).levels[0].raises
    assert {r.raise_id for r in standing} == {m["raiseId"] for m in made}
    assert sorted(m["version"] for m in made) == list(range(2, 10))
