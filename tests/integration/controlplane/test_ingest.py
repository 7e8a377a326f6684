"""Usage events and audit commitments: each once, and from the org's own plane alone."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tenantplane.core.ids import new_id
from tests.fixtures.controlplane import ControlPlaneProcess, PlaneClient, unique, usage_event


async def _org_on_a_plane(control_plane: ControlPlaneProcess) -> tuple[str, PlaneClient]:
    region = unique("region")
    plane = await control_plane.plane(region)
    return await control_plane.tenant(await control_plane.plan(), region=region), plane


def _commitment(org_id: str, **changed: object) -> dict[str, Any]:
    return {
        "record_id": str(new_id()),
        "org_id": org_id,
        "run_id": str(new_id()),
        "entry_hex": "ab" * 32,
        "occurred_at": datetime.now(UTC).isoformat(),
        **changed,
    }


async def _send(plane: PlaneClient, what: str, rows: list[dict[str, Any]]) -> httpx2.Response:
    body = {"usage": "events", "audit": "commitments"}[what]
    async with plane.speaking() as http:
        return await http.post(f"/v1/planes/self/{what}", json={body: rows})


def _row(what: str, org_id: str, **changed: object) -> dict[str, Any]:
    return (usage_event if what == "usage" else _commitment)(org_id, **changed)


@pytest.mark.parametrize("what", ["usage", "audit"])
@pytest.mark.fault("F43")
async def test_each_row_counts_once(control_plane: ControlPlaneProcess, what: str) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    rows = [_row(what, org_id) for _ in range(5)]
    first = await _send(plane, what, rows[:3])
    assert first.json() == {"accepted": 3, "duplicate": 0}
    again = await _send(plane, what, [*reversed(rows), rows[0]])
    assert again.json() == {"accepted": 2, "duplicate": 4}
    assert (await _send(plane, what, [])).json() == {"accepted": 0, "duplicate": 0}


@pytest.mark.parametrize("what", ["usage", "audit"])
async def test_a_row_never_changes(control_plane: ControlPlaneProcess, what: str) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    row = _row(what, org_id)
    await _send(plane, what, [row])
    other: dict[str, object] = {"cost_nanousd": 1} if what == "usage" else {"entry_hex": "cd" * 32}
    refused = await _send(plane, what, [_row(what, org_id), row | other])
    assert refused.status_code == 409
    assert refused.json()["code"] in ("event_changed", "record_changed")
    assert "security event" in control_plane.log.read_text()
    assert (await _send(plane, what, [row])).json() == {"accepted": 0, "duplicate": 1}


@pytest.mark.parametrize("what", ["usage", "audit"])
@pytest.mark.fault("F62")
async def test_a_plane_reports_for_its_own_orgs_alone(
    control_plane: ControlPlaneProcess, what: str
) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    other, _ = await _org_on_a_plane(control_plane)
    for foreign in (other, "nobody"):
        refused = await _send(plane, what, [_row(what, org_id), _row(what, foreign)])
        assert (refused.status_code, refused.json()["code"]) == (403, "org_not_on_plane")
    assert "plane_spoke_for_foreign_org" in control_plane.log.read_text()
    usage = (await control_plane.http.get(f"/v1/tenants/{org_id}/usage")).json()
    assert usage["months"] == []  # nothing of those batches was kept


async def test_a_wrong_root_is_refused(control_plane: ControlPlaneProcess) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    refused = await _send(plane, "usage", [usage_event(org_id, root_org_id="other")])
    assert refused.status_code == 403


async def test_bad_rows_are_named(control_plane: ControlPlaneProcess) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    refused = await _send(plane, "usage", [usage_event(org_id, cost_nanousd=-1, input_tokens="x")])
    assert refused.status_code == 422
    assert {e["path"] for e in refused.json()["errors"]} == {
        "events.0.cost_nanousd",
        "events.0.input_tokens",
    }
    huge = await _send(plane, "usage", [usage_event(org_id, cost_nanousd=2**70)])
    assert (huge.status_code, huge.json()["code"]) == (422, "value_cannot_be_stored")


async def test_sums_by_month_in_the_tenants_time_zone(control_plane: ControlPlaneProcess) -> None:
    region = unique("region")
    plane = await control_plane.plane(region)
    org_id = await control_plane.tenant(
        await control_plane.plan(), region=region, timeZone="Pacific/Auckland"
    )
    call = {"intent_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4())}
    estimated = usage_event(
        org_id, **call, stage="estimated", cost_nanousd=9000, delta_nanousd=9000, output_tokens=99
    )
    actual = usage_event(org_id, **call, delta_nanousd=-4500, occurred_at="2026-02-14T12:00:05Z")
    later = usage_event(org_id, occurred_at="2026-02-28T13:00:00Z")  # already March over there
    tool = usage_event(org_id, kind="tool", resource="clock", cost_nanousd=0, delta_nanousd=0)
    await _send(plane, "usage", [estimated, actual, later, tool])
    usage = (await control_plane.http.get(f"/v1/tenants/{org_id}/usage")).json()
    assert usage["timeZone"] == "Pacific/Auckland"
    sums = [(m["month"], m["resource"], m["calls"], m["costNanousd"]) for m in usage["months"]]
    assert sums == [
        ("2026-02", "assistant-1", 1, 4500),
        ("2026-02", "clock", 1, 0),
        ("2026-03", "assistant-1", 1, 4500),
    ]
    assert usage["months"][0]["outputTokens"] == 5


async def test_what_comes_after_a_purge_is_money_of_nobody(
    control_plane: ControlPlaneProcess,
) -> None:
    org_id, plane = await _org_on_a_plane(control_plane)
    before, after = usage_event(org_id), usage_event(org_id)
    await _send(plane, "usage", [before])
    await control_plane.http.delete(f"/v1/tenants/{org_id}", params={"policy": "Purge"})
    answer = await _send(plane, "usage", [before, after])
    assert answer.json() == {"accepted": 1, "duplicate": 1}
