"""A control plane and a data plane, both real: what one signs, the other obeys."""

from __future__ import annotations

import time

import pytest

from tests.fixtures.controlplane import ControlPlaneProcess, unique
from tests.fixtures.dataplane import StartDataPlane, until


@pytest.mark.req("R16", "R22")
async def test_what_one_signs_the_other_obeys(
    control_plane: ControlPlaneProcess, start_data_plane: StartDataPlane
) -> None:
    region, name = unique("region"), unique("plane")
    token = await control_plane.enrolment_token(name, region)
    data = await start_data_plane(control_plane.url, name, token)
    plan = await control_plane.plan()
    org_id = await control_plane.tenant(plan, region=region)
    key = await control_plane.api_key(org_id)
    await data.serves(key)
    await until(lambda: control_plane.view(org_id), lambda view: view.applied)

    answer = await data.chat(key, "hello")
    assert answer.status_code == 200, answer.text
    usage = await until(
        lambda: control_plane.http.get(f"/v1/tenants/{org_id}/usage"),
        lambda response: bool(response.json()["months"]),
    )
    (month,) = usage.json()["months"]
    assert (month["resource"], month["calls"]) == ("assistant-1", 1)
    assert month["costNanousd"] > 0

    await control_plane.put_plan(plan, entitlements={"tools": [], "models": []})
    await until(lambda: data.get("/v1/models", key), lambda response: response.json()["data"] == [])

    asked = time.monotonic()
    await control_plane.put_tenant(org_id, {"plan": plan, "region": region, "suspended": True})
    await data.answers(key, 403)
    assert time.monotonic() - asked < 2.0  # one second, with slack
